"""What an artifact storage is: the contract that every one of them keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol


class ArtifactStoreUnavailable(Exception):
    """The artifact storage does not take or give bytes now; try again."""

    exit_code = 5


class TooLarge(Exception):
    """More bytes came than were allowed; nothing was stored."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"larger than the {limit} bytes that are left")
        self.limit = limit


@dataclass(frozen=True, slots=True)
class Stored:
    size_bytes: int
    sha256: str


class ArtifactStore(Protocol):
    """Keeps bytes under a key. Thread-safe; memory stays flat however large an artifact is.

    `put` is atomic: a reader sees all of it or nothing, and a repeated put of the same key replaces it. Of
    several puts of one key at once, one wins whole. A put that raised may be repeated.
    Keys are chosen by the product, `[A-Za-z0-9._-]+(/…)*`, never by a task.
    Every method may raise `ArtifactStoreUnavailable`, within a bounded time where the system allows it;
    `open` raises `KeyError` for an unknown key.
    """

    def put(self, key: str, source: BinaryIO, *, limit: int) -> Stored:
        """Store at most `limit` bytes of `source`; raise `TooLarge` (nothing stored) when there are more."""

    def open(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `start` on, at most `length`; none when `start` lies behind the end.

        A reader that stops early drops the iterator, or calls its `close`: that frees what was open.
        """

    def delete_prefix(self, prefix: str) -> None:
        """Remove all keys below `prefix/`; idempotent."""

    def ping(self) -> None:
        """Raise when the storage is not reachable or takes no writes. Cheap: health checks call it."""
