"""Where the bytes of artifacts lie."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

CHUNK_BYTES = 1 << 20


class ArtifactStoreUnavailable(Exception):
    """The artifact storage does not take or give bytes now; try again."""


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
    """Keeps bytes under a key. Thread-safe.

    `put` is atomic: a reader sees all of it or nothing, and a repeated put of the same key replaces it.
    Keys are chosen by the product, `[A-Za-z0-9._-]+(/…)*`, never by a task.
    Every method may raise `ArtifactStoreUnavailable`; `open` raises `KeyError` for an unknown key.
    """

    def put(self, key: str, source: BinaryIO, *, limit: int) -> Stored:
        """Store at most `limit` bytes of `source`; raise `TooLarge` (nothing stored) when there are more."""

    def open(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `start` on, at most `length`."""

    def delete_prefix(self, prefix: str) -> None:
        """Remove all keys below `prefix/`; idempotent."""

    def ping(self) -> None:
        """Raise unless the storage takes writes."""


class DirectoryStore:
    """A directory: the embedded storage, or a file system that all hosts share."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, key: str, source: BinaryIO, *, limit: int) -> Stored:
        target = self._root / key
        try:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".incoming-", delete=False) as temporary:
                try:
                    stored = _copy(source, temporary, limit)
                    temporary.flush()
                    os.fsync(temporary.fileno())
                    Path(temporary.name).rename(target)
                except BaseException:
                    Path(temporary.name).unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise ArtifactStoreUnavailable(f"artifact {key} cannot be stored below {self._root}: {error}") from error
        return stored

    def open(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        try:
            source = (self._root / key).open("rb")
        except FileNotFoundError:
            raise KeyError(key) from None
        except OSError as error:
            raise ArtifactStoreUnavailable(f"artifact {key} cannot be read below {self._root}: {error}") from error
        return _slice(source, start, length)

    def delete_prefix(self, prefix: str) -> None:
        shutil.rmtree(self._root / prefix, ignore_errors=True)

    def ping(self) -> None:
        if not os.access(self._root, os.W_OK):
            raise ArtifactStoreUnavailable(f"the artifact directory {self._root} is not writable")


def _copy(source: BinaryIO, target: IO[bytes], limit: int) -> Stored:
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK_BYTES):
        size += len(chunk)
        if size > limit:
            raise TooLarge(limit)
        digest.update(chunk)
        target.write(chunk)
    return Stored(size, digest.hexdigest())


def _slice(source: BinaryIO, start: int, length: int | None) -> Iterator[bytes]:
    with source:
        source.seek(start)
        left = length
        while chunk := source.read(CHUNK_BYTES if left is None else min(left, CHUNK_BYTES)):
            yield chunk
            if left is not None:
                left -= len(chunk)


def open_artifact_store(url: str) -> ArtifactStore:
    """Open the storage a `SANDBOX_ARTIFACTS_URL` names; raise `ValueError` for another kind."""
    parts = urlsplit(url)
    if parts.scheme != "file" or not parts.path.startswith("/"):
        raise ValueError(f"SANDBOX_ARTIFACTS_URL={url} is not supported: use file:///absolute/directory")
    return DirectoryStore(Path(unquote(parts.path)))
