"""Whether this worker can enter its sandboxes' namespaces, and which ones it must never enter."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.conftest import missing
from workers.egress.namespace import EgressUnavailable, listen_inside, why_not
from workers.sandbox.docker.connection import engine_process


def test_an_engine_whose_processes_cannot_be_seen_is_told() -> None:
    assert "another host" in str(why_not(0))


def test_root_may_enter_and_another_user_is_told_why_not() -> None:
    if os.geteuid() != 0:
        missing("root", "run the tests as root")
    assert why_not(None) is None
    assert why_not(os.getpid()) is None
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        os.write(writer, str(why_not(None)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 1000) == (
        b"it may not enter a network namespace (Operation not permitted): run the worker as root"
    )
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("process_id", [os.getpid(), 1, 4_000_000], ids=["our own", "the first", "gone"])
def test_the_host_s_own_namespace_and_one_that_is_gone_are_refused(process_id: int) -> None:
    with pytest.raises(EgressUnavailable, match="cannot be opened"):
        listen_inside(process_id)


def test_the_engine_is_asked_of_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "engine.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    assert engine_process() is None
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        assert engine_process() == os.getpid()
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2375")
    assert engine_process() == 0
