"""What can end a running command: exit, deadline, idle, cancel, lost claim. The first one wins."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """Why supervision ended."""

    EXITED = "exited"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    IDLE = "idle"
    STALE = "stale"
    """The claim is lost: destroy, write nothing."""
    STOPPING = "stopping"
    """The worker itself ends (Ctrl-C of `up`), or its drain's deadline is over: its attempts end too."""
    INPUT = "input"
    """Nobody answered what it asked."""
    DISK = "disk"
    """What it wrote is more than vm.disk, where nothing but the worker's own watch holds it to that."""
    REBOOTED = "rebooted"
    """The host was booted again while the command ran: it ended then, without an exit code that means anything."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds. `started_at` is monotonic; an adopted attempt's lies in the past.

    `pauses`: while it waits for a person's input, the time does not run.
    """

    started_at: float
    timeout: float
    idle_timeout: float | None
    input_timeout: float | None = None
    pauses: bool = False


class Signals:
    """Where other threads report what concerns one attempt. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._exited = False
        self._cancelled = False
        self._force = False
        self._stale = False
        self._stopping = False
        self._disk_exceeded = False
        self._asked_at: float | None = None
        self._waited_seconds = 0.0
        self._active_at = time.monotonic()
        self._certain_until = time.monotonic()

    def exited(self) -> None:
        with self._changed:
            self._exited = True
            self._changed.notify_all()

    def exit_event(self) -> None:
        """The engine itself told of the end, just now."""
        self.seen_running()
        self.exited()

    def seen_running(self) -> None:
        """The engine says that it runs."""
        self._certain_until = time.monotonic()

    @property
    def certain_until(self) -> float:
        """Up to when it is known that the sandbox ran, or how it ended (monotonic seconds)."""
        return self._certain_until

    def cancel(self, *, force: bool) -> None:
        with self._changed:
            self._cancelled = True
            self._force = self._force or force
            self._changed.notify_all()

    def stale(self) -> None:
        with self._changed:
            self._stale = True
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def disk_exceeded(self) -> None:
        with self._changed:
            self._disk_exceeded = True
            self._changed.notify_all()

    def active(self) -> None:
        """The command said something. Read by the idle clock only: waiters are not woken."""
        self._active_at = time.monotonic()

    def input_awaited(self, asked_at: float | None, waited_seconds: float) -> None:
        """It waits for a person since `asked_at` (monotonic; None: it does not), and has waited so long in all."""
        with self._changed:
            if self._asked_at is not None and asked_at is None:
                self._active_at = time.monotonic()
            changed = asked_at != self._asked_at
            self._asked_at, self._waited_seconds = asked_at, waited_seconds
            if changed:
                self._changed.notify_all()

    def waits_for_input(self) -> bool:
        return self._asked_at is not None

    @property
    def force(self) -> bool:
        return self._force

    def asked_to_end(self) -> Verdict | None:
        """What other than the command's own end or a clock asks to stop, if anything."""
        if self._stale:
            return Verdict.STALE
        if self._cancelled:
            return Verdict.CANCELLED
        if self._disk_exceeded:
            return Verdict.DISK
        return Verdict.STOPPING if self._stopping else None

    def supervise(self, limits: Limits) -> Verdict:
        """Block until the first ending."""
        with self._changed:
            while True:
                if self._exited:
                    return Verdict.STALE if self._stale else Verdict.EXITED
                asked = self.asked_to_end()
                if asked:
                    return asked
                deadline, verdict = self._next_deadline(limits)
                left = deadline - time.monotonic()
                if left <= 0:
                    return verdict
                self._changed.wait(min(left, threading.TIMEOUT_MAX))

    def _next_deadline(self, limits: Limits) -> tuple[float, Verdict]:
        """Who waits for a person is silent with reason, and, where the manifest says so, has all the time."""
        paused = self._waited_seconds if limits.pauses else 0.0
        deadlines = [(limits.started_at + limits.timeout + paused, Verdict.TIMEOUT)]
        if self._asked_at is not None:
            if limits.pauses:
                deadlines = [(float("inf"), Verdict.TIMEOUT)]
            if limits.input_timeout is not None:
                deadlines.append((self._asked_at + limits.input_timeout, Verdict.INPUT))
        elif limits.idle_timeout is not None:
            deadlines.append((max(self._active_at, limits.started_at) + limits.idle_timeout, Verdict.IDLE))
        return min(deadlines)

    def wait_exit(self, timeout_seconds: float, *, until_forced: bool = False) -> bool:
        """Block until the sandbox ended (true) or the time is over, or force was asked for (false)."""
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            while not self._exited:
                left = deadline - time.monotonic()
                if left <= 0 or (until_forced and self._force):
                    return False
                self._changed.wait(left)
            return True
