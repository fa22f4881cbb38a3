"""Collect artifacts from a workspace that a stranger's code has written (isolation-and-faults.md §5.3)."""

from __future__ import annotations

import mimetypes
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from orchestrator import clock
from orchestrator.artifacts import ArtifactStore, TooLarge
from orchestrator.models import Artifact, Claim
from workers.globs import compile_pattern, leads_into, matches
from workers.tree import Refused, open_directory, open_regular, walk

MAX_PATH_BYTES = 2048
"""Longer ones fit neither into a request line nor into an index of the store."""
NAMED_REFUSALS = 100
"""More refusals than this are counted, not named one by one."""
SHOWN_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class CollectLimits:
    """Caps per task. `deadline` is monotonic."""

    max_count: int
    max_bytes: int
    deadline: float


@dataclass
class Collection:
    """What was stored, and what was not, with the reason."""

    stored: list[Artifact] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    refused_count: int = 0
    total_bytes: int = 0

    def refuse(self, path: str, why: str) -> None:
        self.refused_count += 1
        if len(self.refusals) < NAMED_REFUSALS:
            self.refusals.append(f"artifact {printable(path)} refused: {why}")

    def report(self) -> list[str]:
        """The product's words for the log: nothing is left out silently."""
        unnamed = self.refused_count - len(self.refusals)
        return [*self.refusals, f"{unnamed} more artifacts were refused"] if unnamed else self.refusals


class OutOfTime(Exception):
    """The deadline has passed."""


class Collector:
    """Stores files of one attempt. Storage keys are counters, never a name that a task chose."""

    def __init__(
        self,
        store: ArtifactStore,
        claim: Claim,
        prefix: str,
        limits: CollectLimits,
        redact: Callable[[str], str] = str,
    ) -> None:
        """`redact` takes secrets out of a text: a name in which it finds one is not listed."""
        self._store = store
        self._claim = claim
        self._prefix = f"{prefix}/{claim.attempt}"
        self._limits = limits
        self._redact = redact
        self._ours: set[str] = set()
        self.collection = Collection()

    def collect(self, top: Path, patterns: Sequence[str]) -> None:
        """Store what matches. Raises `ArtifactStoreUnavailable`; what was refused is in `collection`."""
        compiled = [compile_pattern(pattern) for pattern in patterns]
        at = "."

        def wanted(directory: str) -> bool:
            self._check_time()
            # A repository's own files are kept only for who asks for them by name.
            asked = [one for one in compiled if directory != ".git" or one[0] == ".git"]
            return any(leads_into(directory, pattern) for pattern in asked)

        try:
            for at, directory in walk(top, wanted=wanted, refuse=self.collection.refuse):
                self._check_time()
                if any(matches(at, pattern) for pattern in compiled):
                    self._visit(at, directory)
                elif any(pattern[: at.count("/") + 1] == tuple(at.split("/")) for pattern in compiled):
                    self.collection.refuse(at, "a pattern leads through it, but it is no directory; a link is not one")
        except OutOfTime:
            self.collection.refuse(at, "collect_timeout is over, nothing from here on is stored; raise it")

    def add_file(self, source: Path, path: str) -> None:
        """Store a file of ours (the patch) under `path`; a file of the task with that path is refused."""
        self._ours.add(path)
        directory = open_directory(source.parent)
        try:
            self._take(path, partial(open_regular, source.name, directory))
        finally:
            os.close(directory)

    def _visit(self, path: str, directory: int) -> None:
        if path in self._ours:
            self.collection.refuse(path, "an artifact of the product has this path")
        else:
            self._take(path, partial(open_regular, path.rpartition("/")[2], directory))

    def _check_time(self) -> None:
        if time.monotonic() >= self._limits.deadline:
            raise OutOfTime

    def _take(self, path: str, opened: Callable[[], BinaryIO]) -> None:
        found = self.collection
        try:
            self._check_name(path)
            with opened() as source:
                self._keep(path, source)
        except TooLarge as error:
            found.refuse(path, f"{error}; the limit of a task is {self._limits.max_bytes} bytes")
        except Refused as error:
            found.refuse(path, str(error))

    def _check_name(self, path: str) -> None:
        fault = name_fault(path)
        if fault:
            raise Refused(fault)
        if self._redact(path) != path:
            raise Refused("its name holds a secret")
        if len(self.collection.stored) >= self._limits.max_count:
            raise Refused(f"the limit of {self._limits.max_count} artifacts is reached")

    def _keep(self, path: str, source: BinaryIO) -> None:
        found = self.collection
        left = self._limits.max_bytes - found.total_bytes
        if os.fstat(source.fileno()).st_size > left:
            raise TooLarge(left)
        key = f"{self._prefix}/{len(found.stored)}"
        stored = self._store.put(key, cast(BinaryIO, _Readable(source)), limit=left)
        found.total_bytes += stored.size_bytes
        found.stored.append(
            Artifact(
                task_id=self._claim.task_id,
                attempt=self._claim.attempt,
                path=path,
                size_bytes=stored.size_bytes,
                content_type=mimetypes.guess_type(path)[0] or "application/octet-stream",
                sha256=stored.sha256,
                created_at=clock.now(),
                key=key,
            )
        )


class _Readable:
    """What a storage reads from: a fault of the task's disk refuses this file, and is not taken for the storage's."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source

    def read(self, size: int = -1) -> bytes:
        try:
            return self._source.read(size)
        except OSError as error:
            raise Refused(f"it cannot be read ({error.strerror})") from error


def name_fault(path: str) -> str | None:
    """Why a path cannot be an artifact's, or None. Both sides of a transfer must be able to write it down."""
    if not path.isprintable():  # what is no UTF-8 arrives as lone surrogates, which are not printable
        return "its name is not printable UTF-8"
    if "\\" in path:
        return "its name holds a backslash, which some systems take for a directory"
    if len(path.encode()) > MAX_PATH_BYTES:
        return f"its path is longer than {MAX_PATH_BYTES} bytes"
    return None


def printable(path: str) -> str:
    """The path with every byte escaped that a reader of a log would not see as it is."""
    shown = "".join(
        char if char.isprintable() else "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
        for char in path[:SHOWN_CHARACTERS]
    )
    return f"{shown}…" if len(path) > SHOWN_CHARACTERS else shown
