"""When the keeper must stop sandboxes, and how: the lease, and the programs that do it."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from workers.keeper_log import log

STOPS_AT_ONCE = 4
RETRY_SECONDS = 10.0
TRIES_MAX = 20
# A stop that hangs (an engine that does not answer) must not keep its place for ever.
STOP_TIMEOUT_SECONDS = 120.0


def clock() -> float:
    """Seconds since the host booted, its sleep included: a lease also runs while the host is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """Until when the worker's sandboxes may run without a word from it. Instants are `clock()`'s."""

    def __init__(self, stop_after_seconds: float) -> None:
        """`stop_after_seconds` holds from `ensure` until the first `renew` says better."""
        self._stop_after_seconds = stop_after_seconds
        self.expires_at: float | None = None

    def renew(self, now: float, stop_after_seconds: float) -> None:
        """The worker raised its heartbeat in the store: its sandboxes may run for that long."""
        self._stop_after_seconds = stop_after_seconds
        self.expires_at = now + stop_after_seconds

    def pause(self, now: float, adopt_seconds: float) -> None:
        """The worker was stopped on purpose and said so: wait that long for its successor's `renew`."""
        self.expires_at = now + adopt_seconds

    def ensure(self, now: float) -> None:
        """The first sandbox arrives: if no lease runs, one begins, so that none is ever held without."""
        if self.expires_at is None or self.expired(now):
            self.expires_at = now + self._stop_after_seconds

    def expired(self, now: float) -> bool:
        """True when the sandboxes must be stopped."""
        return self.expires_at is not None and now >= self.expires_at


class _Stop:
    """The tries to stop one sandbox."""

    def __init__(self, name: str, argv: list[str]) -> None:
        self.name = name
        self.argv = argv
        self.tries = 0
        self.next_at = 0.0
        self.pid: int | None = None
        self.started_at = 0.0
        self.succeeded = False

    @property
    def settled(self) -> bool:
        return self.succeeded or (self.pid is None and self.tries >= TRIES_MAX)


class Stops:
    """Runs stop programs: detached, a few at once, again every 10 s until one exits 0. Never blocks."""

    def __init__(self) -> None:
        self._wanted: dict[str, _Stop] = {}
        self._running: list[_Stop] = []

    @property
    def running(self) -> bool:
        """True while a program runs whose end must be noticed."""
        return bool(self._running)

    def want(self, name: str, argv: list[str]) -> None:
        """Stop that sandbox; no effect when that is under way or done."""
        if name not in self._wanted:
            self._wanted[name] = _Stop(name, argv)

    def succeeded(self, name: str) -> bool:
        """True when the sandbox's stop program has exited 0."""
        stop = self._wanted.get(name)
        return stop is not None and stop.succeeded

    def settled(self, name: str) -> bool:
        """True when it succeeded or every try is used up."""
        stop = self._wanted.get(name)
        return stop is not None and stop.settled

    def forget(self, name: str) -> None:
        """Start no further try for it; one that runs is let run."""
        self._wanted.pop(name, None)

    def forget_all(self) -> None:
        """The lease was renewed: no further tries, and a new expiry begins anew."""
        self._wanted.clear()

    def tick(self, now: float) -> None:
        """Notice programs that ended, start those that are due."""
        self._running = [stop for stop in self._running if self._runs_on(stop, now)]
        for stop in self._wanted.values():
            if len(self._running) >= STOPS_AT_ONCE:
                break
            if stop.pid is None and not stop.settled and now >= stop.next_at:
                self._start(stop, now)

    def _start(self, stop: _Stop, now: float) -> None:
        stop.tries += 1
        stop.started_at = now
        stop.next_at = now + RETRY_SECONDS
        try:
            stop.pid = os.posix_spawnp(
                stop.argv[0],
                stop.argv,
                os.environ,
                file_actions=[(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)],
                setsid=True,
                setsigdef=[signal.SIGPIPE],
            )
        except OSError as error:
            log("stop failed", name=stop.name, tries=stop.tries, error=str(error))
            return
        self._running.append(stop)
        log("stop started", name=stop.name, tries=stop.tries, stop_pid=stop.pid)

    def _runs_on(self, stop: _Stop, now: float) -> bool:
        """False once the program has ended, its result noted."""
        if stop.pid is None:
            return False
        try:
            pid, status = os.waitpid(stop.pid, os.WNOHANG)
        except ChildProcessError:
            pid, status = stop.pid, -1
        if pid == 0:
            if now - stop.started_at > STOP_TIMEOUT_SECONDS:
                with suppress(ProcessLookupError):
                    os.killpg(stop.pid, signal.SIGKILL)
            return True
        stop.pid = None
        stop.succeeded = status == 0
        log("stop ended", name=stop.name, tries=stop.tries, succeeded=stop.succeeded, wait_status=status)
        return False
