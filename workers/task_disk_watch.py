"""Looks at the disks of tasks while they are used: were they full, and how much was in use at most."""

from __future__ import annotations

import math
import os
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
from workers.task_disk import LONGEST_REST_SECONDS, WATCH_SECONDS
from workers.workspace import AttemptDirectory

LOOK_SECONDS = 1.0
IDLE_SHARE = 20
"""A disk that takes long to measure rests for so many times that: watching must not load the host."""
GLANCE_SECONDS = 0.1
"""Of a watched directory that nobody has measured yet, what can be seen in this time is told."""
LAST_LOOK_SECONDS = 5.0
"""A command that has ended does not wait for longer than this until it is known whether its disk was full."""
WRITES = BEFORE_RUNNING | {State.RUNNING}
"""The states in which a disk can grow by what the task, or the clone of its repository, does."""


class DiskGauge:
    """What is known of one attempt's disk, in this process's memory only.

    `used_bytes` is what was in use at the last look, None before the first, `peak_bytes` the most that was seen; `full`
    says of what there was nothing left at some time. `look` and `measure` are called by the two watching threads,
    `look` also by the attempt's own at its end, `glance` by whoever tells of it; what they keep, but for `used_bytes`,
    only grows. `writable_layer` gives the bytes that the engine holds of a writable root (None where the root is
    read-only); it may raise `EngineUnavailable`, `SandboxError`. `at_least`: the last look did not see everything in
    its time, and more may be in use.
    """

    def __init__(
        self, directory: AttemptDirectory, limit_bytes: int, writable_layer: Callable[[], int] | None = None
    ) -> None:
        self._directory = directory
        self._writable_layer = writable_layer
        self.limit_bytes = limit_bytes
        self.used_bytes: int | None = None
        self.peak_bytes = 0
        self.full: str | None = None
        self.broken = False
        self.at_least = False
        self._rests_until = 0.0
        self._layer_bytes = 0

    @property
    def is_image(self) -> bool:
        """The kernel holds the task to its size. Raises `OSError`."""
        return disk_image.is_mounted(self._directory.disk)

    def look(self) -> None:
        """Ask the kernel for the use of an image; costs microseconds. Does nothing for a watched directory."""
        with suppress(OSError), disk_image.opened(self._directory.disk) as (top, image):  # else being made or removed
            if image:
                use = disk_gauge.of_file_system(top)
                self._keep(use.bytes_used + self._layer_bytes, use)
                # The image is sparse: where the host has no room, the kernel loses what the task has written.
                host = os.statvfs(self._directory.root)
                self.broken = self.broken or host.f_bavail * host.f_frsize < disk_gauge.MARGIN_BYTES

    def measure_if_rested(self) -> bool:
        """`measure`, but of what took long the last time only after a rest."""
        began = time.monotonic()
        if began < self._rests_until:
            return False
        exceeded = self.measure()
        ended = time.monotonic()
        self._rests_until = ended + min(IDLE_SHARE * (ended - began), LONGEST_REST_SECONDS)
        return exceeded

    def measure(self, seconds: float = math.inf) -> bool:
        """Add up what no kernel counts, as much as `seconds` allow; tell whether it is more than the task may have."""
        with suppress(OSError, EngineUnavailable, SandboxError):  # it is being made or removed, or not started yet
            with disk_image.opened(self._directory.disk) as (top, image):
                if image and self._writable_layer is None:
                    return False
                use = (
                    disk_gauge.of_file_system(top)
                    if image
                    else disk_gauge.of_tree(top, self.limit_bytes, seconds=seconds)
                )
            if self._writable_layer is not None:
                self._layer_bytes = self._writable_layer()
            total = use.bytes_used + self._layer_bytes
            self._keep(total, use)
            return total > self.limit_bytes or (not image and use.full is not None)
        return False

    def glance(self) -> None:
        """Look, without asking the engine; of a directory that was not measured yet, see what is quickly seen."""
        self.look()
        if self.used_bytes is not None:
            return
        with suppress(OSError), disk_image.opened(self._directory.disk) as (top, image):
            if not image:
                use = disk_gauge.of_tree(top, self.limit_bytes, seconds=GLANCE_SECONDS)
                self.used_bytes, self.peak_bytes = use.bytes_used, max(self.peak_bytes, use.bytes_used)

    def look_at_end(self) -> None:
        """The last look, at a command that has failed: nothing of the task writes any more."""
        self.look()
        with suppress(OSError), disk_image.opened(self._directory.disk) as (top, image):
            self.broken = self.broken or (image and not disk_gauge.takes_writes(top))
        if self.measure(LAST_LOOK_SECONDS):
            self.full = self.full or disk_gauge.SPACE

    def _keep(self, bytes_used: int, use: Use) -> None:
        self.used_bytes = bytes_used
        self.peak_bytes = max(self.peak_bytes, bytes_used)
        self.full = self.full or use.full
        self.broken = self.broken or use.broken
        self.at_least = use.at_least


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
        while not self._stop.wait(WATCH_SECONDS):
            for attempt in self._writing():
                if attempt.disk_gauge.measure_if_rested():
                    attempt.signals.disk_exceeded()

    def _writing(self) -> list[Watched]:
        return [attempt for attempt in self._attempts() if attempt.state in WRITES]
