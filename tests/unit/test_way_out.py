"""The thread that looks after a sandbox's way out: what ends by itself is opened again, and the task's log says so."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.e2e.stack import eventually
from workers import way_out
from workers.agents.run import RunAgent
from workers.attempt import Attempt
from workers.egress.ledger import Ledger
from workers.model_api.meter import Meter
from workers.model_api.prices import BUILT_IN
from workers.sandbox.port import EngineUnavailable


class Breaking(socket.socket):
    """Its next accept after `broken` was set fails as nobody expects."""

    broken = False

    def accept(self) -> tuple[socket.socket, Any]:
        client, address = super().accept()
        if self.broken:
            client.close()
            raise OSError(errno.EIO, "a fault that nobody thought of")
        return client, address


class Entrance:
    """What is opened is a socket of this process; `standing` is what a sidecar would be."""

    def __init__(self) -> None:
        self.opened: list[Breaking] = []
        self.standing = True
        self.silent = False

    def open(self) -> list[socket.socket]:
        server = Breaking(socket.AF_INET, socket.SOCK_STREAM)
        server.bind(("127.0.0.1", 0))
        server.listen()
        self.opened.append(server)
        self.standing = True
        return [server]

    def stands(self) -> bool:
        if self.silent:
            raise EngineUnavailable("it does not answer")
        return self.standing

    def close(self) -> None:
        pass


class FakeAttempt(SimpleNamespace):
    """As much of an attempt as a way out asks for. `said` is the task's log; `failing` is raised by the next write."""

    def __init__(self) -> None:
        super().__init__(
            sandbox="sandbox",
            claim=SimpleNamespace(task_id="task"),
            traffic=Ledger(),
            agent=RunAgent(),
            meter=Meter(None, BUILT_IN),
            profile=SimpleNamespace(learn_egress=False),
            manifest=SimpleNamespace(vm=SimpleNamespace(allowed_hosts=(), network_mode="outbound")),
        )
        self.settings = SimpleNamespace(egress_private_cidrs=(), worker_name="worker")
        self.equipment = SimpleNamespace(writer=self, product=SimpleNamespace(settings=self.settings))
        self.opening = Entrance()
        self.said: list[str] = []
        self.failing: Exception | None = None

    def entrance(self, _sandbox: str, _ports: Sequence[int]) -> Entrance:
        return self.opening

    def words(self, text: str) -> str:
        return text

    def say(self, text: str) -> None:
        self.said.append(text)

    def write(self, _claim: object, lines: list[str], **_beside: object) -> None:
        if self.failing is not None:
            failing, self.failing = self.failing, None
            raise failing
        self.said += lines


@pytest.fixture
def attempt(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAttempt]:
    for name in ("FLUSH_SECONDS", "REOPEN_SECONDS", "CALM_SECONDS", "LOOK_SECONDS"):
        monkeypatch.setattr(way_out, name, 0.01)
    made = FakeAttempt()
    opened = way_out.WayOut(cast(Attempt, made), way_out.doors_of(cast(Attempt, made)))
    opened.open()
    yield made
    opened.close()


def connect(server: Breaking) -> None:
    socket.create_connection(server.getsockname(), 30).close()


def test_a_listener_that_fails_is_opened_again_and_said_once(attempt: FakeAttempt) -> None:
    [first] = attempt.opening.opened
    first.broken = True
    connect(first)
    eventually("it is said", lambda: attempt.said, 30)
    failed = "its listener failed: [Errno 5] a fault that nobody thought of"
    assert attempt.said == [f"the way to the network was closed: {failed}; it is open again"]
    [_, second] = attempt.opening.opened
    assert first.fileno() == -1
    connect(second)


def test_a_sidecar_that_ended_is_replaced_and_an_engine_that_does_not_answer_changes_nothing(
    attempt: FakeAttempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[bool] = []
    ended = way_out.WayOut._ended

    def looked(self: way_out.WayOut) -> str:
        looks.append(attempt.opening.silent)
        return ended(self)

    monkeypatch.setattr(way_out.WayOut, "_ended", looked)
    attempt.opening.silent, attempt.opening.standing = True, False
    eventually("it has asked a few times", lambda: looks.count(True) > 5, 30)
    assert len(attempt.opening.opened) == 1
    attempt.opening.silent = False
    eventually("it is said", lambda: attempt.said, 30)
    assert attempt.said == ["the way to the network was closed: its sidecar ended; it is open again"]
    assert [one.fileno() == -1 for one in attempt.opening.opened] == [True, False]


def test_who_fails_at_telling_of_it_goes_on_and_the_way_stays_open(attempt: FakeAttempt, tmp_path: Path) -> None:
    attempt.failing = ZeroDivisionError(f"in {tmp_path.name}")
    attempt.traffic.on_failed("a.test", 443, "first")
    eventually("it is said", lambda: attempt.said, 30)
    attempt.traffic.on_failed("b.test", 443, "second")
    eventually("it tells again", lambda: len(attempt.said) > 1, 30)
    failed = f"ZeroDivisionError: in {tmp_path.name}"
    assert attempt.said == [
        f"the way to the network was not looked after for a moment: {failed}",
        "egress failed: second",
    ]
    [still] = attempt.opening.opened
    connect(still)
