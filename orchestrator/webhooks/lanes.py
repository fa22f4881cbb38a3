"""Whom to send to next, so that no receiver that is slow, and no owner, holds up the others (pure)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

THREADS = 16
AT_ONCE_TO_ORIGIN = 4
AT_ONCE_TO_SLOW = 8
"""To all receivers together that took longer than `SLOW_SECONDS` the last time."""
AT_ONCE_FOR_OWNER = 8
SLOW_SECONDS = 1.0
MOST_SLOW = 1000
"""So many slow receivers are remembered."""

Key = tuple[str, int]
"""A delivery: webhook and number."""


@dataclass(frozen=True, slots=True)
class Closed:
    """To whom nothing is sent just now."""

    origins: frozenset[str]
    owners: frozenset[str]


class Lanes:
    """What is under way. Not thread-safe."""

    def __init__(self) -> None:
        self._under_way: dict[Key, tuple[str, str | None]] = {}
        self._slow: dict[str, None] = {}
        self._ended: set[Key] = set()

    @property
    def free(self) -> int:
        """Threads that have nothing to do."""
        return THREADS - len(self._under_way)

    def look(self) -> Closed:
        """To be called before it is read what is due. What ends from now on cannot be begun until the next look: what
        was read says that it is due, and it may not be so any more."""
        self._ended.clear()
        return self.closed()

    def closed(self) -> Closed:
        origins = Counter(origin for origin, _ in self._under_way.values())
        owners = Counter(owner for _, owner in self._under_way.values() if owner is not None)
        full = {origin for origin, count in origins.items() if count >= AT_ONCE_TO_ORIGIN}
        if sum(origin in self._slow for origin, _ in self._under_way.values()) >= AT_ONCE_TO_SLOW:
            full.update(self._slow)
        return Closed(frozenset(full), frozenset(one for one, count in owners.items() if count >= AT_ONCE_FOR_OWNER))

    def enter(self, key: Key, origin: str, owner: str | None) -> bool:
        """Begin to send; false when it is under way already, or has to wait."""
        closed = self.closed()
        if (
            key in self._under_way
            or key in self._ended
            or not self.free
            or origin in closed.origins
            or owner in closed.owners
        ):
            return False
        self._under_way[key] = (origin, owner)
        return True

    def leave(self, key: Key, seconds: float) -> None:
        """It took so long."""
        origin, _ = self._under_way.pop(key)
        self._ended.add(key)
        self._slow.pop(origin, None)
        if seconds > SLOW_SECONDS:
            self._slow[origin] = None
            if len(self._slow) > MOST_SLOW:
                del self._slow[next(iter(self._slow))]
