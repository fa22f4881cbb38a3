"""Wall-clock time as the product writes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


def now() -> datetime:
    """The present instant, aware, UTC."""
    return datetime.now(UTC)


def boot_seconds() -> float:
    """Seconds since the host booted, the time it was suspended included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SteadyClock:
    """The wall clock without its jumps: what deadlines are compared with (fault F15). Not thread-safe.

    It runs by the monotonic clock and catches up with the wall clock by a tenth of the time that passes, so a
    clock that is set by an hour, or a day, ends no wait at once and makes none last for ever.
    """

    _SLEW = 0.1

    def __init__(self, wall: Callable[[], datetime] = now, monotonic: Callable[[], float] = boot_seconds) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._at, self._seen = wall(), monotonic()

    def now(self) -> datetime:
        """The present instant, aware, UTC."""
        seen = self._monotonic()
        passed, self._seen = timedelta(seconds=seen - self._seen), seen
        self._at += passed
        most = passed * self._SLEW
        self._at += max(-most, min(most, self._wall() - self._at))
        return self._at


def text(at: datetime) -> str:
    """RFC 3339, UTC, microseconds, `Z` (contract, preamble)."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse(raw: str) -> datetime:
    """Read an RFC 3339 instant; raise `ValueError` when it is none or has no offset."""
    at = datetime.fromisoformat(raw)
    if at.tzinfo is None:
        raise ValueError(f"{raw!r} has no time zone; write it like 2026-01-29T12:00:00Z")
    return at.astimezone(UTC)
