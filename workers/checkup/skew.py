"""How far two clocks are apart."""

from __future__ import annotations

from datetime import datetime

from workers.finding import Finding, note, ok

MAX_CLOCK_SKEW_SECONDS = 2.0


def compared(whose: str, there: datetime, before: datetime, after: datetime) -> Finding:
    """The finding for a clock that showed `there` when it was asked between `before` and `after` by ours."""
    skew = clock_skew_seconds(there, before, after)
    if skew <= MAX_CLOCK_SKEW_SECONDS:
        return ok("clock", f"that of {whose} agrees with this one")
    seen = f"that of {whose} is {skew:.0f} s off: waits and the order of times in logs are off by as much"
    return note("clock", seen, "synchronise the clocks (chrony)")


def clock_skew_seconds(there: datetime, before: datetime, after: datetime) -> float:
    """How far `there`, in whatever zone, is outside of when it was asked for."""
    return max(0.0, (before - there).total_seconds(), (there - after).total_seconds())
