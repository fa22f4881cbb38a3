"""Looks at the disks of tasks while they are used: were they full, and how much was in use at most."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Protocol

from orchestrator.states import BEFORE_RUNNING, State
from workers import disk_gauge, disk_image
from workers.disk_gauge import Use
from workers.sandbox.port import EngineUnavailable, SandboxError
from workers.supervisor import Signals
from workers.task_disk import WATCH_SECONDS
from workers.workspace import AttemptDirectory

LOOK_SECONDS = 1.0
IDLE_SHARE = 20
"""A round that takes long is followed by a pause of so many times its length: watching must not load the host."""
WRITES = BEFORE_RUNNING | {State.RUNNING}
"""The states in which a disk can grow by what the task, or the clone of its repository, does."""


class DiskGauge:
    """What is known of one attempt's disk, in this process's memory only.

    `full` says of what there was nothing left at some time. `look` and `measure` are called by the two watching
    threads, `look` also by the attempt's own at its end; what they keep only grows. `writable_layer` gives the bytes
    that the engine holds of a writable root (None where the root is read-only); it may raise `EngineUnavailable`,
    `SandboxError`.
    """

    def __init__(
        self, directory: AttemptDirectory, limit_bytes: int, writable_layer: Callable[[], int] | None = None
    ) -> None:
        self._directory = directory
        self._writable_layer = writable_layer
        self.limit_bytes = limit_bytes
        self.peak_bytes = 0
        self.full: str | None = None
        self.broken = False

    @property
    def is_image(self) -> bool:
        """The kernel holds the task to its size. Raises `OSError`."""
        return disk_image.is_mounted(self._directory.disk)

    def look(self) -> None:
        """Ask the kernel for the use of an image; costs microseconds. Does nothing for a watched directory."""
        with suppress(OSError):  # it is being made or removed
            if self.is_image:
                use = disk_gauge.of_file_system(self._directory.disk)
                self._keep(use.bytes_used, use)

    def measure(self) -> bool:
        """Add up what no kernel counts; tell whether it is more than the task may have."""
        with suppress(OSError, EngineUnavailable, SandboxError):  # it is being made or removed, or not started yet
            image = self.is_image
            if image and self._writable_layer is None:
                return False
            use = (
                disk_gauge.of_file_system(self._directory.disk)
                if image
                else disk_gauge.of_tree(self._directory.disk, self.limit_bytes)
            )
            total = use.bytes_used + (self._writable_layer() if self._writable_layer else 0)
            self._keep(total, use)
            return total > self.limit_bytes or (not image and use.full is not None)
        return False

    def look_at_end(self) -> None:
        """The last look, at a command that has failed: nothing of the task writes any more."""
        self.look()
        if self.measure():
            self.full = self.full or disk_gauge.SPACE

    def _keep(self, bytes_used: int, use: Use) -> None:
        self.peak_bytes = max(self.peak_bytes, bytes_used)
        self.full = self.full or use.full
        self.broken = self.broken or use.broken


class Watched(Protocol):
    """What the watch needs of an attempt."""

    signals: Signals
    state: State

    @property
    def disk_gauge(self) -> DiskGauge: ...


class TaskDiskWatch:
    """The rounds over the attempts of this process, each endless and for a thread of its own, until `stop` is set."""

    def __init__(self, attempts: Callable[[], Iterable[Watched]], stop: threading.Event) -> None:
        self._attempts = attempts
        self._stop = stop

    def look_often(self) -> None:
        """See a disk that is full for a moment: its task may make room again before it fails."""
        while not self._stop.wait(LOOK_SECONDS):
            for attempt in self._writing():
                attempt.disk_gauge.look()

    def measure_often(self) -> None:
        """End tasks that wrote too much where no kernel holds them to their size."""
        pause = WATCH_SECONDS
        while not self._stop.wait(pause):
            began = time.monotonic()
            for attempt in self._writing():
                if attempt.disk_gauge.measure():
                    attempt.signals.disk_exceeded()
            pause = max(WATCH_SECONDS, IDLE_SHARE * (time.monotonic() - began))

    def _writing(self) -> list[Watched]:
        return [attempt for attempt in self._attempts() if attempt.state in WRITES]
