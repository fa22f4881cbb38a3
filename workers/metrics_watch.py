"""Looks at what the sandboxes of this worker use while they run, and tells of it in the journal."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from orchestrator import clock
from orchestrator.models import Claim, Kind, NewRecord, Resources
from orchestrator.states import RAN, State
from workers.journal_writer import Writer
from workers.sandbox.port import EngineUnavailable, SandboxBackend, SandboxError, SandboxUse
from workers.task_disk_watch import DiskGauge
from workers.use_gauge import UseGauge

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
TELL_SECONDS = 5.0
"""Counted by the clock, not by the attempt: what many attempts have to tell is written in one transaction."""
FIRST_LOOKS_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""After the gate was opened: a short command is over before the first second is."""
FIRST_TELL_SECONDS = 1.0


class Watched(Protocol):
    """What the watch needs of an attempt."""

    claim: Claim
    state: State
    sandbox: str | None
    use_gauge: UseGauge

    @property
    def disk_gauge(self) -> DiskGauge: ...

    @property
    def effective(self) -> Resources: ...

    @property
    def used(self) -> dict[str, Any]: ...


@dataclass
class _Pace:
    """When an attempt is due, in monotonic seconds.

    `since` is when the interval began that is told of next, and the cpu time by then.
    """

    next_look_at: float
    next_tell_at: float = math.inf
    running_at: float | None = None
    since: tuple[float, float] | None = None
    offered: threading.Event | None = None


class MetricsWatch:
    """Used by one thread, but for `wake`. Nothing that is told waits for the store: what it does not take is dropped.

    Where the kernel's counts are not in sight the engine is asked, one sandbox after the other and no more often than
    is told.
    """

    def __init__(
        self,
        attempts: Callable[[], Iterable[Watched]],
        backend: SandboxBackend,
        writer: Writer,
        stop: threading.Event,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._attempts = attempts
        self._backend = backend
        self._writer = writer
        self._stop = stop
        self._now = now
        self._woken = threading.Event()
        self._paces: dict[Claim, _Pace] = {}

    def wake(self) -> None:
        """An attempt has changed its state: it may be due."""
        self._woken.set()

    def look_and_tell(self) -> None:
        """Go round until `stop` is set."""
        while not self._stop.is_set():
            self._woken.wait(self.round())
            self._woken.clear()

    def round(self) -> float:
        """Look at each attempt that is due; return for how many seconds none is."""
        alive = [one for one in self._attempts() if one.sandbox and (one.state is State.READY or one.state in RAN)]
        self._paces = {one.claim: self._paces.get(one.claim) or _Pace(self._now()) for one in alive}
        for one in alive:
            pace = self._paces[one.claim]
            if pace.running_at is None and one.state in RAN:
                pace.next_look_at = pace.running_at = self._now()
                pace.next_tell_at = pace.running_at + FIRST_TELL_SECONDS
            if self._now() >= pace.next_look_at:
                try:
                    self._look(one, pace)
                except Exception:  # whatever it is, its task goes on, and so do the looks at the others
                    log.exception("sandbox not looked at", extra={"task": one.claim.task_id})
                    pace.next_look_at = self._now() + TELL_SECONDS
        due_at = min((pace.next_look_at for pace in self._paces.values()), default=math.inf)
        return max(0.0, min(due_at - self._now(), LOOK_SECONDS))

    def _look(self, attempt: Watched, pace: _Pace) -> None:
        found = None
        with suppress(EngineUnavailable, SandboxError):  # another look is due soon
            found = attempt.use_gauge.look(self._backend, attempt.sandbox or "")
        at = self._now()
        if found is not None and pace.running_at is not None:
            if pace.since is None:
                pace.since = at, found.cpu_seconds
            elif at >= pace.next_tell_at and (pace.offered is None or pace.offered.is_set()):
                self._tell(attempt, found, pace, at)
        pace.next_look_at = _next_look(pace, at, asks_engine=attempt.use_gauge.asks_engine)

    def _tell(self, attempt: Watched, found: SandboxUse, pace: _Pace, at: float) -> None:
        since, cpu_seconds = pace.since or (at, found.cpu_seconds)
        if attempt.disk_gauge.used_bytes is None:
            attempt.disk_gauge.glance()
        body = {
            "cpu_percent": round(max(0.0, 100 * (found.cpu_seconds - cpu_seconds) / max(at - since, 0.001)), 1),
            "memory_used_bytes": found.memory_bytes,
            "memory_total_bytes": attempt.effective.memory_bytes,
            "disk_used_bytes": attempt.disk_gauge.used_bytes,
            "disk_total_bytes": attempt.disk_gauge.limit_bytes,
            "load_avg": [round(load, 2) for load in os.getloadavg()],
        }
        pace.offered = self._writer.offer(
            attempt.claim, [NewRecord(Kind.METRICS, clock.now(), body=body)], **attempt.used
        )
        pace.since = at, found.cpu_seconds
        pace.next_tell_at = _multiple_after(at, TELL_SECONDS)
        if pace.next_tell_at - at < FIRST_TELL_SECONDS:
            pace.next_tell_at += TELL_SECONDS


def _next_look(pace: _Pace, at: float, *, asks_engine: bool) -> float:
    """Before the gate opens one look is enough; then they come quickly, and later at the same time for all attempts."""
    if pace.running_at is None:
        return math.inf
    if asks_engine:
        return max(pace.next_tell_at, at + LOOK_SECONDS)
    first = (pace.running_at + seconds for seconds in FIRST_LOOKS_SECONDS)
    return next((due for due in first if due > at), _multiple_after(at, LOOK_SECONDS))


def _multiple_after(at: float, seconds: float) -> float:
    return (at // seconds + 1) * seconds
