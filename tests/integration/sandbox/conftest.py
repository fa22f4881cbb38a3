"""A Docker backend of a test installation, and the proof after each test that nothing of it is left."""

from __future__ import annotations

import gc
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.integration.sandbox.engine_proxy import EngineProxy
from workers.helper import HelperResult, run_helper
from workers.network.entry import Entrance, NamespaceEntry, SidecarEntry
from workers.sandbox.docker.connection import connect
from workers.sandbox.docker.engine import DockerBackend
from workers.sandbox.labels import INSTALLATION, ROLE, ROLE_EGRESS, WORKER
from workers.sandbox.port import Mount, SandboxSpec
from workers.workspace import sandbox_user_id

WORKER_NAME = "worker-of-the-test"

SpecOf = Callable[..., SandboxSpec]
RunInside = Callable[..., HelperResult]
EntranceOf = Callable[[str], Entrance]
ENTRY_KINDS = ("namespace", "sidecar")


@pytest.fixture(scope="session")
def engine(docker_engine: None) -> Iterator[docker.APIClient]:
    """The engine itself, past the backend: to look behind it."""
    client = connect()
    yield client
    client.close()


@pytest.fixture(scope="session")
def installation() -> str:
    return f"test-{uuid.uuid4()}"


@pytest.fixture
def backend(installation: str) -> Iterator[DockerBackend]:
    made = DockerBackend(installation, WORKER_NAME)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _nothing_is_left(engine: docker.APIClient, installation: str) -> Iterator[None]:
    yield
    gc.collect()  # what the SDK left open is closed, and warned of, in the test that made it
    left = engine.containers(all=True, filters={"label": INSTALLATION})
    mine = [one for one in left if one["Labels"][INSTALLATION].startswith(installation)]
    for one in mine:
        engine.remove_container(one["Id"], force=True, v=True)
    assert mine == []


@pytest.fixture
def spec_of(installation: str) -> SpecOf:
    """Return a function that makes a spec of a small sandbox, with whatever is given changed."""

    def make(**changes: Any) -> SandboxSpec:
        spec = SandboxSpec(
            name=f"sandbox-{uuid.uuid4().hex}",
            image="sandbox/basic:latest",
            labels={INSTALLATION: installation, WORKER: WORKER_NAME},
            mounts=(),
            cpus=1.0,
            memory_bytes=256 << 20,
            pids=128,
            tmp_bytes=32 << 20,
            user_id=sandbox_user_id(),
        )
        return replace(spec, **changes)

    return make


@pytest.fixture
def run_inside(backend: DockerBackend, spec_of: SpecOf) -> RunInside:
    """Return a function that runs a command in a sandbox of its own, to its end."""

    def run(command: Sequence[str], spec: SandboxSpec | None = None, **options: Any) -> HelperResult:
        given = {"directory": "/", "interrupted": lambda: False, "deadline": time.monotonic() + 120, **options}
        return run_helper(backend, spec or spec_of(), command, given.pop("environment", {}), **given)

    return run


@pytest.fixture
def entry_kind() -> str:
    """How listeners get into sandboxes; a test may ask for `ENTRY_KINDS`."""
    return "namespace"


@pytest.fixture
def entrance_of(entry_kind: str, backend: DockerBackend, spec_of: SpecOf, tmp_path: Path) -> EntranceOf:
    """Return a function that tells where the listener of a sandbox, given by its id, is to be."""
    entry = NamespaceEntry(backend) if entry_kind == "namespace" else SidecarEntry(backend)

    def sidecar() -> SandboxSpec:
        spec = spec_of()
        return replace(spec, labels={**spec.labels, ROLE: ROLE_EGRESS})

    return lambda sandbox: Entrance(entry, sandbox, tmp_path / "egress", sidecar, sandbox_user_id)


@pytest.fixture
def owned(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that makes a directory of the sandbox's user."""

    def make(name: str) -> Path:
        directory = tmp_path / name
        directory.mkdir()
        os.chown(directory, sandbox_user_id(), sandbox_user_id())
        return directory

    return make


@pytest.fixture
def engine_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProxy]:
    """The engine behind a socket that can be cut; what the test makes from here on connects through it."""
    with EngineProxy(tmp_path_factory.mktemp("p") / "s") as proxy:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{proxy.path}")
        yield proxy


@pytest.fixture
def home_and_workspace(owned: Callable[[str], Path]) -> tuple[Mount, Mount]:
    return Mount(owned("workspace"), "/workspace"), Mount(owned("home"), "/home/agent")
