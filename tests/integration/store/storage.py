"""An artifact storage that does what a test wants: goes away, or lets something happen in the middle of a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

from orchestrator.artifacts import ArtifactStore, ArtifactStoreUnavailable, Stored


def nothing(_key: str) -> None:
    """What happens unless a test says otherwise."""


class StorageWithFaults:
    def __init__(self, inner: ArtifactStore) -> None:
        self._inner = inner
        self.down = False
        self.opened: list[str] = []
        self.put_keys: list[str] = []
        self.before_put: Callable[[str], None] = nothing
        self.after_put: Callable[[str], None] = nothing
        self.before_open: Callable[[str], None] = nothing
        self.after_delete: Callable[[str], None] = nothing

    def put(self, key: str, source: BinaryIO, *, limit: int) -> Stored:
        self._reach()
        self.before_put(key)
        stored = self._inner.put(key, source, limit=limit)
        self.put_keys.append(key)
        self.after_put(key)
        return stored

    def open(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        self._reach()
        self.opened.append(key)
        self.before_open(key)
        return self._inner.open(key, start, length)

    def delete_prefix(self, prefix: str) -> None:
        self._reach()
        self._inner.delete_prefix(prefix)
        self.after_delete(prefix)

    def ping(self) -> None:
        self._reach()

    def _reach(self) -> None:
        if self.down:
            raise ArtifactStoreUnavailable("the storage is down for this test")
