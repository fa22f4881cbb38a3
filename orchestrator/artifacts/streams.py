"""Bytes on their way into and out of a storage: counted, hashed, limited, closed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import BinaryIO, Protocol

from orchestrator.artifacts.port import Stored, TooLarge

CHUNK_BYTES = 1 << 20


class Intake:
    """Reads a source once; knows size and SHA-256 of what came. Raises `TooLarge` beyond `limit` bytes."""

    def __init__(self, source: BinaryIO, limit: int) -> None:
        self._source = source
        self._limit = limit
        self._size_bytes = 0
        self._digest = hashlib.sha256()

    def chunk(self, at_most: int = CHUNK_BYTES) -> bytes:
        """Return the next bytes, none at the end."""
        chunk = self._source.read(min(at_most, CHUNK_BYTES))
        self._size_bytes += len(chunk)
        if self._size_bytes > self._limit:
            raise TooLarge(self._limit)
        self._digest.update(chunk)
        return chunk

    def part(self, size: int) -> bytearray:
        """Return the next `size` bytes, fewer only at the end."""
        part = bytearray()
        while len(part) < size and (chunk := self.chunk(size - len(part))):
            part += chunk
        return part

    @property
    def stored(self) -> Stored:
        """What came so far."""
        return Stored(self._size_bytes, self._digest.hexdigest())


class Readable(Protocol):
    """What `Chunks` reads from: an open file, the body of an HTTP answer."""

    def read(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


class Chunks:
    """Iterates over at most `length` bytes of `source`, and closes it: at the end, at a fault, or when dropped.

    A generator would not do: one that was never started runs no `finally`, and a client that asks for a
    download and hangs up would leave a connection to the storage behind.
    Each read happens inside `guard()`, which gives its faults the storage's name.
    """

    def __init__(
        self,
        source: Readable,
        length: int | None = None,
        guard: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._source: Readable | None = source
        self._left = length
        self._guard = guard
        if length == 0:
            self.close()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._source is None:
            raise StopIteration
        try:
            with self._guard():
                chunk = self._source.read(CHUNK_BYTES if self._left is None else min(self._left, CHUNK_BYTES))
        except BaseException:
            self.close()
            raise
        if not chunk:
            self.close()
            raise StopIteration
        if self._left is not None:
            self._left -= len(chunk)
            if not self._left:
                self.close()
        return chunk

    def close(self) -> None:
        """Free the source; safe to repeat."""
        source, self._source = self._source, None
        if source is not None:
            source.close()

    def __del__(self) -> None:
        self.close()
