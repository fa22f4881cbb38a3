"""How many answers are sent at once, and how many of them one caller may keep open.

A rate limit counts requests; an answer that takes its time – a followed log, a DELETE that waits, a download – holds
a thread for as long as its reader likes.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial

THREADS = 1100
"""Each connection that is served holds one; further requests queue."""
MOST_OF_ONE = THREADS // 5
"""Long answers to one token."""
MOST_TRUSTED = THREADS - 50
"""Long answers to one token of an administrator or, where no token is needed, to one address. The rest is for all
that is answered at once: nobody takes the whole server by mistake."""


class Place:
    """One long answer's. `give_back` may be called any number of times."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back: Callable[[], None] | None = give_back

    def give_back(self) -> None:
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()


class Places:
    """Thread-safe; one a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    def take(self, key: str, most: int) -> Place | None:
        """A place of `key`; None when it has `most` already."""
        with self._lock:
            if self._taken[key] >= most:
                return None
            self._taken[key] += 1
        return Place(partial(self._give_back, key))

    def taken(self) -> int:
        """All places that are taken now."""
        with self._lock:
            return self._taken.total()

    def _give_back(self, key: str) -> None:
        with self._lock:
            self._taken[key] -= 1
            if not self._taken[key]:
                del self._taken[key]
