"""When sandboxes are looked at, what is told of them, and what is not when the store or the engine is away."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from orchestrator.models import Claim, Kind, NewRecord, Resources
from orchestrator.states import State
from tests.unit.fake_engine import FakeEngine
from workers import cgroup_use
from workers.metrics_watch import FIRST_LOOKS_SECONDS, TELL_SECONDS, MetricsWatch
from workers.sandbox.port import SandboxUse
from workers.use_gauge import UseGauge

SANDBOX = "f" * 64
GIB = 1 << 30


class Disk:
    """A gauge of a disk that has 7 bytes on it, and was looked at or not."""

    limit_bytes = 40 * GIB

    def __init__(self) -> None:
        self.used_bytes: int | None = None

    def glance(self) -> None:
        self.used_bytes = 7


@dataclass
class Attempt:
    claim: Claim = field(default_factory=lambda: Claim("t", 1, 1))
    state: State = State.READY
    sandbox: str | None = SANDBOX
    effective: Resources = field(default_factory=lambda: Resources(1, 8 * GIB, 40 * GIB))
    use_gauge: UseGauge = field(default_factory=UseGauge)
    disk_gauge: Disk = field(default_factory=Disk)

    @property
    def used(self) -> dict[str, Any]:
        return {"cpu_seconds": self.use_gauge.cpu_seconds}


class Store:
    """Takes offers, and stores them at once or, while it is away, when it is back."""

    def __init__(self) -> None:
        self.offered: list[tuple[Claim, NewRecord, dict[str, Any]]] = []
        self.away = False
        self._waiting: list[threading.Event] = []

    def offer(self, claim: Claim, records: Sequence[NewRecord], **progress: Any) -> threading.Event:
        stored = threading.Event()
        self.offered += [(claim, one, progress) for one in records]
        if self.away:
            self._waiting.append(stored)
        else:
            stored.set()
        return stored

    def come_back(self) -> None:
        self.away = False
        for one in self._waiting:
            one.set()


@dataclass
class Host:
    """A worker whose clock goes on as far as the watch wants to sleep."""

    attempts: list[Attempt]
    engine: FakeEngine
    store: Store = field(default_factory=Store)
    clock: float = 1000.25
    looks: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.watch = MetricsWatch(
            lambda: list(self.attempts), self.engine, self.store, threading.Event(), lambda: self.clock
        )

    def go_on(self, seconds: float) -> None:
        until = self.clock + seconds
        while True:
            before = len(self.engine.calls)
            pause = self.watch.round()
            if len(self.engine.calls) > before:
                self.looks.append(round(self.clock, 6))
            assert pause > 0
            if self.clock + pause > until:
                self.clock = until
                return
            self.clock += pause

    def told(self, name: str) -> list[Any]:
        return [record.body[name] for _, record, _ in self.store.offered]


class Busy(FakeEngine):
    """Its sandbox uses half of a core, by a clock."""

    host: Host

    def used(self, sandbox: str) -> SandboxUse | None:
        super().used(sandbox)
        return SandboxUse((self.host.clock - 1000) / 2, 3 * GIB)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    """The kernel's counts are in sight there."""
    engine = Busy(process_id=7)
    engine.host = host = Host([Attempt()], engine)
    monkeypatch.setattr(cgroup_use, "used", lambda _: engine.used(SANDBOX))
    return host


def test_a_sandbox_is_looked_at_often_at_first_and_then_each_second_with_all_others(host: Host) -> None:
    host.watch.round()
    assert host.engine.calls == ["inspect", "used"], "before the gate opens: whoever is slow now costs no measurement"
    host.looks.clear()
    host.attempts[0].state = State.RUNNING
    host.go_on(4)
    first = [1000.25 + seconds for seconds in (0, *FIRST_LOOKS_SECONDS)]
    assert host.looks == pytest.approx([*first, 1002, 1003, 1004])


def test_the_first_row_comes_after_a_second_and_the_others_at_the_same_time_for_all(host: Host) -> None:
    host.attempts[0].state = State.RUNNING
    times: list[float] = []
    offer = host.store.offer

    def at(*words: Any, **columns: Any) -> threading.Event:
        times.append(host.clock)
        return offer(*words, **columns)

    host.store.offer = at  # type: ignore[method-assign]
    host.go_on(1.2)
    host.attempts.append(Attempt(Claim("u", 1, 1), State.RUNNING))
    host.go_on(12)
    assert times == pytest.approx([1001.25, 1002.45, 1005, 1005, 1010, 1010])
    (claim, record, columns), *_ = host.store.offered
    assert (claim.task_id, record.kind, columns) == ("t", Kind.METRICS, {"cpu_seconds": pytest.approx(0.625)})


def test_a_row_has_what_is_used_of_how_much_and_the_cpu_since_the_one_before(host: Host) -> None:
    host.attempts[0].state = State.RUNNING
    host.go_on(6)
    assert host.told("cpu_percent") == [50, 50]
    body = host.store.offered[0][1].body
    assert (body["memory_used_bytes"], body["memory_total_bytes"]) == (3 * GIB, 8 * GIB)
    assert (body["disk_used_bytes"], body["disk_total_bytes"]) == (7, 40 * GIB)
    assert len(body["load_avg"]) == 3


def test_while_the_store_is_away_one_row_of_an_attempt_waits_and_no_look_does(host: Host) -> None:
    host.attempts = [Attempt(Claim(name, 1, 1), State.RUNNING) for name in ("a", "b")]
    host.store.away = True
    host.go_on(100)
    assert len(host.store.offered) == 2
    assert len(host.engine.calls) > 200
    host.store.come_back()
    host.go_on(1)
    assert host.told("cpu_percent") == [50] * 4, "the interval that was not told of is in the next one"


def test_where_the_kernel_s_counts_are_not_in_sight_the_engine_is_asked_as_often_as_is_told(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup_use, "used", lambda _: None)
    host.attempts[0].state = State.RUNNING
    host.go_on(30)
    assert host.looks == pytest.approx([1000.25, 1001.25, 1005, 1010, 1015, 1020, 1025, 1030])
    assert host.told("cpu_percent") == [50] * 7
    assert host.engine.calls.count("inspect") == 1


def test_an_engine_that_is_away_costs_rows_and_nothing_else(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup_use, "used", lambda _: None)
    host.attempts[0].state = State.RUNNING
    host.go_on(7)
    host.engine.away = True
    host.go_on(20)
    rows = len(host.store.offered)
    host.engine.away = False
    host.go_on(TELL_SECONDS)
    assert len(host.store.offered) > rows
    assert host.told("cpu_percent") == [50] * len(host.store.offered)


def test_only_what_may_run_is_looked_at(host: Host) -> None:
    host.attempts = [
        Attempt(Claim("a", 1, 1), State.STAGING, None),
        Attempt(Claim("b", 1, 1), State.PROVISIONING),
        Attempt(Claim("c", 1, 1), State.COMPLETING),
    ]
    host.go_on(3)
    assert [one.use_gauge.cpu_seconds is None for one in host.attempts] == [True, True, False]
    assert {claim.task_id for claim, _, _ in host.store.offered} == {"c"}


def test_what_has_ended_is_not_told_of_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.attempts[0].state = State.RUNNING
    host.go_on(7)
    rows = len(host.store.offered)
    monkeypatch.setattr(cgroup_use, "used", lambda _: None)
    host.attempts[0].state = State.COMPLETING
    host.go_on(60)
    assert len(host.store.offered) == rows


def test_an_attempt_that_cannot_be_looked_at_keeps_no_other_from_it(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Attempt(Claim("broken", 1, 1), State.RUNNING)
    broken.use_gauge = None  # type: ignore[assignment]
    host.attempts = [broken, Attempt(Claim("t", 1, 1), State.RUNNING)]
    with caplog.at_level(logging.ERROR):
        host.go_on(12)
    assert {claim.task_id for claim, _, _ in host.store.offered} == {"t"}
    assert 0 < len(caplog.records) <= 3


def test_the_watch_sleeps_until_it_is_woken_and_ends_when_it_is_told_to(host: Host) -> None:
    """The clock of `host` stands still: without being woken it would find nothing due."""
    stop, seen = threading.Event(), threading.Event()
    attempt = Attempt(state=State.READY)

    def attempts() -> list[Attempt]:
        if attempt.state is State.RUNNING:
            seen.set()
        return [attempt]

    watch = MetricsWatch(attempts, host.engine, host.store, stop, lambda: host.clock)
    thread = threading.Thread(target=watch.look_and_tell)
    thread.start()
    attempt.state = State.RUNNING
    watch.wake()
    assert seen.wait(30)
    stop.set()
    watch.wake()
    thread.join(30)
    assert not thread.is_alive()
