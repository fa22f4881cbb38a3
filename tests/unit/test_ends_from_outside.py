"""An end that the command did not make: told apart from its own, whatever the engine knows and when."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.outcomes import Outcome, Reason
from tests.servers.http import serving
from workers import ending
from workers.outages import Outages
from workers.sandbox.docker.engine import DockerBackend
from workers.sandbox.port import EngineUnavailable

TERMINATED = 143


def end_of(
    tmp_path: Path,
    exit_code: int,
    *,
    asked: Callable[[Outages], bool] = lambda _outages: False,
    oom_killed: bool = False,
    live_restore: bool = False,
) -> Outcome | None:
    """What is said of an end. `asked` answers whether the engine knows of a kill."""
    outages = Outages()
    attempt: Any = SimpleNamespace(
        signals=SimpleNamespace(certain_until=time.monotonic()),
        running_since=time.monotonic() - 60,
        directory=SimpleNamespace(stopped_by_keeper=tmp_path / "stopped-by-keeper"),
        equipment=SimpleNamespace(
            outages=outages,
            backend=SimpleNamespace(
                inspect=lambda _sandbox: None,
                killed_from_outside=lambda _sandbox: asked(outages),
                survives_restart=lambda: live_restore,
            ),
        ),
    )
    found: Any = SimpleNamespace(exit_code=exit_code, oom_killed=oom_killed)
    return ending._broken(attempt, "sandbox", found)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "REMOVAL_SECONDS", 0.0)


def goes_while_asked(outages: Outages) -> bool:
    """Its successor answers, which knows of nothing that was."""
    outages.note()
    return False


def test_an_engine_that_is_seen_to_go_only_after_the_end_took_the_sandbox_along(tmp_path: Path) -> None:
    found = end_of(tmp_path, TERMINATED, asked=goes_while_asked)
    assert found is not None
    assert found.reason is Reason.SANDBOX_ERROR
    assert "was restarted while the task ran" in found.message


def test_a_kill_that_the_engine_knows_of_came_from_outside(tmp_path: Path) -> None:
    found = end_of(tmp_path, TERMINATED, asked=lambda _outages: True)
    assert found is not None
    assert "killed from outside" in found.message


@pytest.mark.parametrize(
    ("exit_code", "more"),
    [
        (TERMINATED, {}),
        (1, {"asked": lambda _outages: True}),
        (137, {"asked": lambda _outages: True, "oom_killed": True}),
        (TERMINATED, {"asked": goes_while_asked, "live_restore": True}),
    ],
    ids=["killed itself", "an exit code of its own", "out of memory", "engine restarted with live restore"],
)
def test_every_other_end_is_the_commands_own(tmp_path: Path, exit_code: int, more: dict[str, Any]) -> None:
    assert end_of(tmp_path, exit_code, **more) is None


def test_an_event_stream_that_the_engine_ends_in_order_is_an_outage_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Engine(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = b'{"ApiVersion": "1.41"}' if self.path.endswith("/version") else b""
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with serving(Engine, threading.Event()) as port:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")
        with closing(DockerBackend("installation", "worker")) as backend:
            told = backend.endings()
            assert next(told) == ""
            with pytest.raises(EngineUnavailable, match="ended its stream of events"):
                next(told)
