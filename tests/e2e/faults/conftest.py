"""Installations for the fault suite; its long tests run with `make test-faults` only."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import missing, postgres_programs
from tests.e2e.faults.installation import Installation
from tests.e2e.faults.running import Install, running
from tests.integration.store.cluster import Cluster, can_run_as_server, running_cluster
from tests.servers.engine import Engine, save_images


@pytest.fixture(scope="session")
def open_cluster() -> Iterator[Any]:
    """Gives the session's PostgreSQL server, started when it is first asked for."""
    found: list[Cluster] = []
    with ExitStack() as stack:

        def cluster() -> Cluster:
            if not found:
                programs = postgres_programs()
                if programs is None or not can_run_as_server():
                    missing("a PostgreSQL server", "install the package postgresql, or run .ci/install")
                assert programs is not None, "missing() does not return"
                found.append(stack.enter_context(running_cluster(programs)))
            return found[0]

        yield cluster


@pytest.fixture
def install(docker_engine: None, tmp_path: Path, open_cluster: Any) -> Install:
    """Starts installations below the test's directory; each is judged when its block ends."""

    def start(**options: Any) -> AbstractContextManager[Installation]:
        return running(tmp_path / "installation", open_cluster, **options)

    return start


@pytest.fixture(scope="session")
def _engine(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    archive = save_images(tmp_path_factory.mktemp("images") / "basic.tar", "sandbox/basic:latest")
    with Engine(Path(tempfile.mkdtemp(prefix="engine-", dir="/tmp"))) as one:  # a socket's path must be short
        one.start(live_restore=True)
        one.load(archive)
        yield one


@pytest.fixture
def engine(_engine: Engine) -> Engine:
    """A second Docker Engine for tests that break it; it runs with live-restore on and has the tasks' image."""
    _engine.kill()
    _engine.start(live_restore=True)
    return _engine
