"""Who is told what goes through a way out, and what does not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from workers.egress.denial import Denied


class Report(Protocol):
    """Told by the threads of a listener. Each call returns at once; nothing is raised."""

    def on_denied(self, host: str, port: int, denial: Denied) -> None:
        """A connection was refused. `host` is `contacts.UNREADABLE` when the request could not be read."""

    def on_failed(self, host: str, port: int, words: str) -> None:
        """It was allowed, and the host could not be resolved or reached."""

    def on_passed(self, host: str, port: int) -> None:
        """It was allowed, and the connection stands."""

    def on_bytes(self, up: int, down: int) -> None:
        """So many bytes more went out of the sandbox, and into it."""


@dataclass
class EgressReport:
    """What did not get through, in words, each once: refused by the policy, or not reached. For helpers of ours.

    `counted` is told how many bytes went up and down.
    """

    denied: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    counted: Callable[[int, int], None] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def on_denied(self, host: str, port: int, denial: Denied) -> None:  # noqa: ARG002 - the words name both
        self._note(self.denied, str(denial))

    def on_failed(self, host: str, port: int, words: str) -> None:  # noqa: ARG002 - as above
        self._note(self.failed, words)

    def on_passed(self, host: str, port: int) -> None:
        pass

    def on_bytes(self, up: int, down: int) -> None:
        if self.counted is not None:
            self.counted(up, down)

    def _note(self, noted: list[str], words: str) -> None:
        with self._lock:
            if words not in noted:
                noted.append(words)
