"""Waiting for messages without polling: inotify on the queues, and an eventfd to be woken by hand."""

import logging
import os
import select
from contextlib import suppress
from pathlib import Path

from inotify_simple import INotify, flags

logger = logging.getLogger(__name__)

FALLBACK_SECONDS = 1.0
"""Longest wait without a look at the directories: an event that got lost costs a second, not a message."""

_BLIND_FALLBACK_SECONDS = 0.05  # without inotify every message waits for the next look


class Arrivals:
    """What one consuming connection waits on. `wait` and `watch` are for its thread, `wake` for any."""

    def __init__(self) -> None:
        self._paths: dict[int, Path] = {}
        self._lost: list[Path] = []
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._wakeup, select.POLLIN)
        self._inotify = _open_inotify()
        if self._inotify is not None:
            self._poll.register(self._inotify.fileno(), select.POLLIN)

    def watch(self, directory: Path) -> None:
        """Let a file that is moved into `directory` end a wait. The directory must exist."""
        if self._inotify is not None:
            self._paths[self._inotify.add_watch(directory, flags.MOVED_TO | flags.ONLYDIR)] = directory

    def wait(self, seconds: float) -> bool:
        """Wait until a file arrived, `wake` was called or `seconds` are over. True when `wake` was called."""
        longest = FALLBACK_SECONDS if self._inotify is not None else _BLIND_FALLBACK_SECONDS
        self._poll.poll(min(seconds, longest) * 1000)
        self._read_events()
        with suppress(BlockingIOError):
            os.eventfd_read(self._wakeup)
            return True
        return False

    def take_lost(self) -> list[Path]:
        """The watched directories that were removed since the last call."""
        lost, self._lost = self._lost, []
        return lost

    def wake(self) -> None:
        """End the present wait, or the next one. Safe from any thread and from a signal handler."""
        with suppress(OSError):  # closed already: nobody waits any more
            os.eventfd_write(self._wakeup, 1)

    def close(self) -> None:
        """Release the descriptors. Call once, when nobody waits."""
        wakeup, self._wakeup = self._wakeup, -1
        os.close(wakeup)
        if self._inotify is not None:
            self._inotify.close()

    def _read_events(self) -> None:
        if self._inotify is None:
            return
        for event in self._inotify.read(timeout=0):
            if event.mask & flags.IGNORED and event.wd in self._paths:
                self._lost.append(self._paths.pop(event.wd))


def _open_inotify() -> INotify | None:
    try:
        return INotify()
    except OSError as error:  # fs.inotify.max_user_instances is 128 by default, shared by all of a user's programs
        logger.warning(
            "inotify is not available, the embedded broker polls; raise fs.inotify.max_user_instances",
            extra={"why": str(error), "interval_seconds": _BLIND_FALLBACK_SECONDS},
        )
        return None
