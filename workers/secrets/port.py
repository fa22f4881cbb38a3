"""The port of a source of secrets."""

from __future__ import annotations

from typing import Protocol

from orchestrator.outcomes import Fault

MAX_VALUE_BYTES = 64 << 10
"""For one value. Linux passes a variable of less than twice that."""


class SecretRefused(Exception):
    """The source does not give this value, and would not a moment later. The message says why, never a value."""

    def __init__(self, why: str, hint: str, fault: Fault = Fault.USER) -> None:
        super().__init__(why)
        self.hint = hint
        self.fault = fault


class SourceAway(Exception):
    """The source cannot be asked now. The message says why, never a value."""


class Source(Protocol):
    """Where values lie. Keeps none of them; any thread may ask."""

    def read(self, key: str) -> bytes:
        """Return the value of `key`, at most a little more than `MAX_VALUE_BYTES` of it.

        `key` comes from a stranger. Blocks for seconds at most. Raises `SecretRefused`, `SourceAway`.
        """
