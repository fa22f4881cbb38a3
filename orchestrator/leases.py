"""Sees heartbeat counters move, by this process's own monotonic clock: no clock jump costs a task (design §2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Absence:
    """A worker that says nothing: which heartbeat was its last one, and how long ago that was seen."""

    heartbeat: int
    seconds: float


class StoppedWatch:
    """How long workers have been stopped, by this process's own monotonic clock: hosts' clocks may differ."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, int], float] = {}

    def look(self, stopped: Mapping[str, int], now: float) -> dict[str, Absence]:
        """Feed it name → last heartbeat of those that are stopped; get how long each has been seen so."""
        self._since = {key: self._since.get(key, now) for key in stopped.items()}
        return {name: Absence(heartbeat, now - since) for (name, heartbeat), since in self._since.items()}


@dataclass
class LeaseWatch:
    """Feed it the counters again and again. Not thread-safe; times are monotonic seconds."""

    lease_seconds: float
    _moved: dict[str, tuple[int, float]] = field(default_factory=dict)
    _lost: frozenset[str] = frozenset()
    _last_look: float | None = None
    _mass_loss_since: float | None = None

    def look(self, counters: Mapping[str, int], now: float) -> dict[str, Absence]:
        """Return each worker whose lease is over.

        After a pause of our own the observation starts anew. When more than half of the workers that were there
        seem lost at once, they are believed one lease later: more likely the store or we were away.
        """
        if self._last_look is not None and now - self._last_look > max(5.0, self.lease_seconds / 2):
            self._moved.clear()
            self._lost, self._mass_loss_since = frozenset(), None
        self._last_look = now
        self._moved = {
            name: self._moved[name] if self._moved.get(name, (None,))[0] == counter else (counter, now)
            for name, counter in counters.items()
        }
        silence = {name: now - since for name, (_, since) in self._moved.items()}
        gone = {name: seconds for name, seconds in silence.items() if seconds > self.lease_seconds}
        self._lost &= gone.keys()
        if self._believable(len(gone) - len(self._lost), len(counters) - len(self._lost), now):
            self._lost = frozenset(gone)
        return {name: Absence(counters[name], seconds) for name, seconds in gone.items() if name in self._lost}

    def _believable(self, newly_gone: int, there: int, now: float) -> bool:
        """Those lost long ago say nothing about what happens now: they are no part of the mass."""
        if 2 * newly_gone <= there:
            self._mass_loss_since = None
            return True
        if self._mass_loss_since is None:
            self._mass_loss_since = now
        return now - self._mass_loss_since >= self.lease_seconds
