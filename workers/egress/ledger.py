"""What an attempt's sandbox sent and was refused, counted until it is stored. Bounded, whatever the sandbox does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from orchestrator import clock
from orchestrator.contacts import OTHERS, Contact, EgressRule, Traffic
from workers.egress.denial import Denied

MAX_CONTACTS = 500
"""Different hosts, ports and answers kept for an attempt; what is beyond is counted together."""
MAX_LINES = 100
"""Different hosts and ports that are told in the log; what is beyond, the report tells."""
Key = tuple[str, int, EgressRule]


@dataclass
class Ledger:
    """The `Report` of a task's sandbox; thread-safe. Its numbers are of the whole attempt, so storing is repeatable.

    `learning`: what passes is kept too. `shown`: a text without secrets, which a task can put
    into the name of a host.
    """

    learning: bool = False
    shown: Callable[[str], str] = str
    bytes_up: int = 0
    bytes_down: int = 0
    news: threading.Event = field(default_factory=threading.Event)
    _contacts: dict[Key, Contact] = field(default_factory=dict)
    _changed: set[Key] = field(default_factory=set)
    _stored_bytes: tuple[int, int] = (0, 0)
    _lines: list[str] = field(default_factory=list)
    _told: dict[tuple[str, int], int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self, bytes_up: int, bytes_down: int, contacts: Iterable[Contact]) -> None:
        """Go on from what is stored: another worker process counted before this one."""
        with self._lock:
            self.bytes_up, self.bytes_down = bytes_up, bytes_down
            self._stored_bytes = bytes_up, bytes_down
            self._contacts = {(one.host, one.port, one.rule): one for one in contacts}
            self._told = self._counts()

    def on_denied(self, host: str, port: int, denial: Denied) -> None:
        host = self.shown(host)
        advice = self.shown(denial.advice)  # it names the host too
        with self._lock:
            self._count(host, port, denial.rule, passed=False)
            self._tell(host, port, f"egress denied: {host}:{port} ({denial.rule}) – {advice}")

    def on_failed(self, host: str, port: int, words: str) -> None:
        with self._lock:
            self._tell(self.shown(host), port, f"egress failed: {self.shown(words)}")

    def on_passed(self, host: str, port: int) -> None:
        if self.learning:
            with self._lock:
                self._count(self.shown(host), port, EgressRule.LEARNED, passed=True)

    def on_bytes(self, up: int, down: int) -> None:
        with self._lock:
            self.bytes_up += up
            self.bytes_down += down

    def denied(self) -> list[Contact]:
        """All that was refused so far."""
        with self._lock:
            return [one for one in self._contacts.values() if not one.passed]

    def take_lines(self) -> list[str]:
        """What is to be said in the log since the last call."""
        with self._lock:
            lines, self._lines = self._lines, []
            self.news.clear()
            return lines

    def take_counts(self) -> list[str]:
        """How often what was told of was refused in all, where that has grown since it was last said."""
        with self._lock:
            counts = self._counts()
            grown = {place: count for place, count in counts.items() if count > self._told.get(place, count)}
            self._told |= grown
        return [f"egress denied: {host}:{port} – {count} times so far" for (host, port), count in grown.items()]

    def _counts(self) -> dict[tuple[str, int], int]:
        counts: dict[tuple[str, int], int] = {}
        for one in self._contacts.values():
            if not one.passed:
                counts[one.host, one.port] = counts.get((one.host, one.port), 0) + one.count
        return counts

    def take_traffic(self) -> Traffic | None:
        """What is to be stored since the last call; None when nothing changed."""
        with self._lock:
            now = self.bytes_up, self.bytes_down
            if not self._changed and now == self._stored_bytes:
                return None
            found = tuple(self._contacts[key] for key in sorted(self._changed))
            self._changed, self._stored_bytes = set(), now
            return Traffic(*now, found)

    def _count(self, host: str, port: int, rule: EgressRule, *, passed: bool) -> None:
        key = host, port, rule
        if key not in self._contacts and len(self._contacts) >= MAX_CONTACTS:
            key = OTHERS, 0, rule
        at = clock.now()
        before = self._contacts.get(key)
        self._contacts[key] = (
            replace(before, count=before.count + 1, last_at=max(at, before.last_at))
            if before
            else Contact(*key, passed=passed, count=1, first_at=at, last_at=at)
        )
        self._changed.add(key)

    def _tell(self, host: str, port: int, line: str) -> None:
        """The first time for each host and port; how often it came to that, the report tells at the end."""
        if (host, port) in self._told or len(self._told) > MAX_LINES:
            return
        self._told[host, port] = 1
        if len(self._told) > MAX_LINES:
            line = "egress denied: more hosts are refused than are told here; `sandbox task network ID` shows them"
        self._lines.append(line)
        self.news.set()
