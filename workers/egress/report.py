"""Who is told what goes through a way out, and what does not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
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


MAX_NOTED = 100
"""Different words kept of what was refused, and as many of what was not reached: a repository may name any host."""


class EgressReport:
    """What did not get through, in words, each once: refused by the policy, or not reached. For helpers of ours.

    Of each the first `MAX_NOTED` are kept. `counted` is told how many bytes went up and down.
    """

    def __init__(
        self,
        denied: Iterable[str] = (),
        failed: Iterable[str] = (),
        counted: Callable[[int, int], None] | None = None,
    ) -> None:
        self._denied = dict.fromkeys(denied)
        self._failed = dict.fromkeys(failed)
        self.counted = counted
        self._lock = threading.Lock()

    @property
    def denied(self) -> list[str]:
        """In the order of their first time."""
        with self._lock:
            return list(self._denied)

    @property
    def failed(self) -> list[str]:
        """In the order of their first time."""
        with self._lock:
            return list(self._failed)

    def on_denied(self, host: str, port: int, denial: Denied) -> None:  # noqa: ARG002 - the words name both
        self._note(self._denied, str(denial))

    def on_failed(self, host: str, port: int, words: str) -> None:  # noqa: ARG002 - as above
        self._note(self._failed, words)

    def on_passed(self, host: str, port: int) -> None:
        pass

    def on_bytes(self, up: int, down: int) -> None:
        if self.counted is not None:
            self.counted(up, down)

    def _note(self, noted: dict[str, None], words: str) -> None:
        with self._lock:
            if len(noted) < MAX_NOTED:
                noted[words] = None
