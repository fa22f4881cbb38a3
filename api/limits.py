"""How often somebody may ask: a bucket of requests for each, which fills again as time passes.

In the memory of one API process: behind a load balancer each process counts what it gets.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MOST_BUCKETS = 10_000
"""Kept at once, a megabyte and a half. Who has not asked for longest is forgotten first: usually a full bucket."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left to somebody after a request. `retry_after_seconds` is 0 when the request was within the limit."""

    limit: int
    remaining: int
    full_in_seconds: float
    retry_after_seconds: int

    def headers(self, now: float) -> dict[str, str]:
        """`now`: seconds since 1970."""
        found = {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(math.ceil(now + self.full_in_seconds)),
        }
        return found | ({"Retry-After": str(self.retry_after_seconds)} if self.retry_after_seconds else {})


class Buckets:
    """Thread-safe. A bucket holds what is allowed in a minute, and gets it back evenly."""

    def __init__(self, *, most: int = MOST_BUCKETS, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, per_minute: int) -> Standing:
        """Take one from the bucket of `key`, if there is one."""
        each = per_minute / 60
        with self._lock:
            now = self._clock()
            level, at = self._levels.get(key, (float(per_minute), now))
            level = min(float(per_minute), level + (now - at) * each)
            allowed = level >= 1
            level -= 1 if allowed else 0
            self._levels[key] = level, now
            self._levels.move_to_end(key)
            if len(self._levels) > self._most:
                self._levels.popitem(last=False)
        retry = 0 if allowed else max(1, math.ceil((1 - level) / each))
        return Standing(per_minute, int(level), (per_minute - level) / each, retry)
