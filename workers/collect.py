"""Collect artifacts from a workspace that a stranger's code has written (isolation-and-faults.md §5.3).

Nothing of the task runs any more. The walk never follows a link and opens each file relative to its
directory's descriptor; what is opened is checked again by `fstat`.
"""

from __future__ import annotations

import errno
import mimetypes
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from orchestrator import clock
from orchestrator.artifacts import ArtifactStore, TooLarge
from orchestrator.models import Artifact, Claim
from workers.globs import compile_pattern, matches

MAX_DEPTH = 64
NAMED_REFUSALS = 100
"""More refusals than this are counted, not named one by one."""


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


class Collector:
    """Stores files of one attempt. Storage keys are counters, never a name that a task chose."""

    def __init__(self, store: ArtifactStore, claim: Claim, prefix: str, limits: CollectLimits) -> None:
        self._store = store
        self._claim = claim
        self._prefix = f"{prefix}/{claim.attempt}"
        self._limits = limits
        self.collection = Collection()

    def collect(self, top: Path, patterns: Sequence[str]) -> None:
        """Store what matches. Raises `ArtifactStoreUnavailable`; what was refused is in `collection`."""
        compiled = [compile_pattern(pattern) for pattern in patterns]
        wants_git = any(pattern[:1] == (".git",) for pattern in compiled)
        for path, directory in walk(top, enter_git=wants_git, refuse=self.collection.refuse):
            if not any(matches(path, pattern) for pattern in compiled):
                continue
            if time.monotonic() >= self._limits.deadline:
                self.collection.refuse(path, "collect_timeout is over; raise it or collect less")
                return
            self._take(path, lambda path=path, directory=directory: _open(path, directory))  # type: ignore[misc]

    def add_file(self, source: Path, path: str) -> None:
        """Store a file of ours (the patch) under `path`."""
        self._take(path, lambda: source.open("rb"))

    def _take(self, path: str, opened: Callable[[], BinaryIO]) -> None:
        limits, found = self._limits, self.collection
        if not _storable(path):
            return found.refuse(path, "its name is not printable UTF-8")
        if len(found.stored) >= limits.max_count:
            return found.refuse(path, f"the limit of {limits.max_count} artifacts is reached")
        try:
            with opened() as source:
                left = limits.max_bytes - found.total_bytes
                size = os.fstat(source.fileno()).st_size
                if size > left:
                    raise TooLarge(left)
                key = f"{self._prefix}/{len(found.stored)}"
                stored = self._store.put(key, source, limit=left)
        except TooLarge as error:
            return found.refuse(path, f"{error}; the limit of a task is {limits.max_bytes} bytes")
        except Refused as error:
            return found.refuse(path, str(error))
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
        return None


class Refused(Exception):
    """This entry is no file that may be stored; the message says why."""


def walk(top: Path, *, enter_git: bool, refuse: Callable[[str, str], None]) -> Iterator[tuple[str, int]]:
    """Yield (relative path, descriptor of its directory) of every entry that is no directory."""
    for directory, names, files, descriptor in os.fwalk(top, follow_symlinks=False):
        relative = os.path.relpath(directory, top)
        depth = 0 if relative == "." else relative.count("/") + 1
        if depth == 0 and not enter_git and ".git" in names:
            names.remove(".git")
        if depth >= MAX_DEPTH and names:
            refuse(relative, f"directories below depth {MAX_DEPTH} are not collected")
            names.clear()
        links = [name for name in names if stat.S_ISLNK(os.lstat(name, dir_fd=descriptor).st_mode)]
        names.sort()
        for name in sorted([*files, *links]):
            yield (name if relative == "." else f"{relative}/{name}"), descriptor


def _open(path: str, directory: int) -> BinaryIO:
    """Open a regular file by its directory; never a link, never waiting for a fifo's other end."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path.rsplit("/", 1)[-1], flags, dir_fd=directory)
    except OSError as error:
        why = "a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise Refused(f"{why}; only regular files are collected") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Refused("a device, fifo or socket; only regular files are collected")
    return os.fdopen(descriptor, "rb")


def _storable(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return path.isprintable() and "\\" not in path


def printable(path: str) -> str:
    """The name with everything escaped that is not plain: safe in a log."""
    return (
        path.encode("utf-8", "surrogateescape").decode("ascii", "backslashreplace") if not path.isprintable() else path
    )
