"""compose.yaml as it is, with the images that .ci/compose-images builds; and what it leaves on the host."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import missing
from tests.e2e.stack import eventually, processes_with
from tests.servers.process import free_port

ROOT = Path(__file__).parents[2]
SERVER_IMAGE = "sandbox/server:packages"


def run(*argv: str, **environment: str) -> str:
    """Run a program from the checkout; its standard output, or an assertion with all that it said."""
    done = subprocess.run(
        argv, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, f"{argv}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout.strip()


def compose_command() -> list[str]:
    """`docker compose` where it is installed, else `docker-compose`."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ["docker", "compose"]
    if shutil.which("docker-compose") is None:
        missing("docker-compose", "run .ci/install")
    return ["docker-compose"]


@dataclass
class Composed:
    """One project of its own: name, ports, data directory."""

    directory: Path
    privileged: bool
    project: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:8]}")
    port: int = field(default_factory=free_port)
    stream_port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def compose(self, *arguments: str) -> str:
        settings = {
            "COMPOSE_PROJECT_NAME": self.project,
            "SANDBOX_DATA_DIR": str(self.directory),
            "SANDBOX_WORKER_NAME": self.project,
            "SANDBOX_PORT": str(self.port),
            "SANDBOX_STREAM_PORT": str(self.stream_port),
            "SANDBOX_PRIVILEGED": str(self.privileged).lower(),
        }
        files = ["-f", "compose.yaml", "-f", ".ci/compose.packages.yaml"]
        return run(*compose_command(), *files, *arguments, **settings)

    def up(self) -> None:
        self.compose("up", "--detach")

    def container(self, service: str) -> dict[str, Any]:
        """What the engine says of a service's container."""
        labels = (f"com.docker.compose.project={self.project}", f"com.docker.compose.service={service}")
        filters = [part for label in labels for part in ("--filter", f"label={label}")]
        found: dict[str, Any] = json.loads(run("docker", "inspect", run("docker", "ps", "--all", "--quiet", *filters)))[
            0
        ]
        return found

    def is_healthy(self, service: str) -> bool:
        return bool(self.container(service)["State"]["Health"]["Status"] == "healthy")

    def sandboxes(self) -> list[str]:
        """Ids of the containers of the project's worker."""
        return run("docker", "ps", "--all", "--quiet", "--filter", f"label=sandbox.worker={self.project}").split()

    def left_over(self) -> list[str]:
        """Containers, networks and volumes of the project."""
        label = f"label=com.docker.compose.project={self.project}"
        kinds = (["ps", "--all"], ["network", "ls"], ["volume", "ls"])
        return [line for kind in kinds for line in run("docker", *kind, "--quiet", "--filter", label).split()]


@contextmanager
def composed() -> Iterator[Composed]:
    """Up from the checkout, down at the end; afterwards nothing of it is left on the host."""
    run(str(ROOT / ".ci/compose-images"))
    with _shared_mount() as directory:
        project = Composed(directory, privileged=_engine_gives_privileges())
        try:
            project.up()
            yield project
            eventually("its sandboxes are gone", lambda: not project.sandboxes())
        finally:
            if left := project.sandboxes():
                run("docker", "rm", "--force", *left)
            project.compose("down", "--volumes")
        assert project.left_over() == []
        eventually("its processes have ended", lambda: not processes_with(str(directory)), 30)
        assert list((directory / "work").iterdir()) == []


def _engine_gives_privileges() -> bool:
    """An engine that itself lacks a capability cannot start a privileged container."""
    argv = ["docker", "run", "--rm", "--privileged", "--user=root", "--network=none", SERVER_IMAGE, "true"]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


@contextmanager
def _shared_mount() -> Iterator[Path]:
    """What docs/compose.md asks for on a host whose `/` is private. Not below pytest's directory, which it tidies."""
    if os.geteuid() != 0:
        missing("root", "run the tests as root")
    directory = Path(tempfile.mkdtemp(prefix="sandbox-compose-"))
    try:
        run("mount", "--bind", str(directory), str(directory))
        try:
            run("mount", "--make-shared", str(directory))
            yield directory
        finally:
            run("umount", str(directory))
    finally:
        shutil.rmtree(directory)
