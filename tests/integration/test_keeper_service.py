"""A keeper that a service manager runs: the worker waits for it and starts none beside it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.stack import eventually, processes_with
from workers import keeper_start, probe
from workers.keeper_client import KeeperClient, KeeperUnavailable

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_start, "START_TIMEOUT_SECONDS", 0.2)


@contextmanager
def service(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-m", "workers.keeper", f"--directory={directory}", "--idle-exit-seconds=inf"]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            yield running
        finally:
            running.kill()


def test_without_the_service_the_worker_says_what_to_start_and_starts_nothing(impatient: None, tmp_path: Path) -> None:
    directory = tmp_path / "keeper"
    client = KeeperClient(directory, starts=False)
    with pytest.raises(KeeperUnavailable, match=r"SANDBOX_KEEPER_SERVICE.*start it"):
        client.ensure_running()
    assert processes_with(str(directory)) == {}
    assert not directory.exists()


def test_the_worker_uses_the_services_keeper_and_the_next_one_after_its_death(tmp_path: Path) -> None:
    directory = tmp_path / "keeper"
    client = KeeperClient(directory, starts=False)
    with service(directory) as first:
        assert client.ensure_running() == first.pid
    with service(directory) as second:
        assert client.ensure_running() == second.pid
    client.close()


def test_a_service_that_holds_nothing_ends_on_term(tmp_path: Path) -> None:
    directory = tmp_path / "keeper"
    with service(directory) as running:
        eventually("it answers", lambda: probe.keeper_trouble(directory) is None)
        running.terminate()
        assert running.wait(30) == 0


def test_the_health_check_tells_an_answering_keeper_from_a_dead_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "keeper"
    assert probe.main(["keeper", str(directory)]) == 1
    with service(directory):
        eventually("it answers", lambda: probe.main(["keeper", str(directory)]) == 0)
    capsys.readouterr()
    assert (directory / "keeper.sock").exists()
    assert probe.main(["keeper", str(directory)]) == 1
    assert capsys.readouterr().out == f"no keeper listens in {directory}; start it\n"


def test_a_health_check_of_anything_else_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert probe.main(["api"]) == 1
    assert probe.USAGE in capsys.readouterr().out
