"""Artifacts in a directory: the embedded storage, or a file system that all hosts mount."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from orchestrator.artifacts.bounded_check import BoundedCheck
from orchestrator.artifacts.port import ArtifactStoreUnavailable, Stored
from orchestrator.artifacts.streams import Chunks, Intake

PING_SECONDS = 5.0
ABANDONED_SECONDS = 86_400.0
"""A file on its way in that nobody wrote to for so long belongs to a process that was killed."""
GROUP_ACCESS = stat.S_ISGID | stat.S_IRWXG


class DirectoryStore:
    """Files below `root`; several hosts may use one at once.

    New files come in below `.incoming` and are renamed to their place, so a reader sees whole ones only.
    The group's access to `root` (and its set-group-id bit) is handed down to all that is made below; others
    get none. After the start `root` itself is never made again: where it lies on a mount, its absence means
    that the mount is away, and files must not go onto the disk under it.
    Raises `OSError` when `root` cannot be made or read at the start.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / ".incoming"
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._mode = stat.S_IRWXU | (root.stat().st_mode & GROUP_ACCESS)
        self._make_directory(self._incoming)
        self._remove_abandoned()
        self._check = BoundedCheck(self._write_probe, PING_SECONDS)

    def put(self, key: str, source: BinaryIO, *, limit: int) -> Stored:
        intake, target = Intake(source, limit), self._root / key
        with self._naming(f"artifact {key} cannot be stored"):
            with tempfile.NamedTemporaryFile(dir=self._incoming, delete=False) as temporary:
                try:
                    while chunk := intake.chunk():
                        temporary.write(chunk)
                    temporary.flush()
                    os.fchmod(temporary.fileno(), self._mode & 0o666)
                    os.fsync(temporary.fileno())
                    self._move(Path(temporary.name), target)
                except BaseException:
                    Path(temporary.name).unlink(missing_ok=True)
                    raise
            _sync_directory(target.parent)
        return intake.stored

    def open(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        with self._naming(f"artifact {key} cannot be read"):
            try:
                source = (self._root / key).open("rb")
            except FileNotFoundError:
                self._root.stat()  # a mount that is away is no missing artifact
                raise KeyError(key) from None
            source.seek(start)
        return Chunks(source, length, partial(self._naming, f"artifact {key} cannot be read to its end"))

    def delete_prefix(self, prefix: str) -> None:
        doomed = self._root / prefix
        with self._naming(f"artifacts below {prefix} cannot be removed"):
            while doomed.exists():
                with suppress(FileNotFoundError):  # somebody else removes the same: it gets less each time
                    shutil.rmtree(doomed)
                    _sync_directory(doomed.parent)
            self._root.stat()  # a mount that is away has not removed anything

    def ping(self) -> None:
        with self._naming("nothing can be stored"):
            self._check()

    def _write_probe(self) -> None:
        with tempfile.NamedTemporaryFile(dir=self._incoming, prefix="ping-") as probe:
            probe.write(b"\n")  # a full disk still makes empty files

    def _move(self, incoming: Path, target: Path) -> None:
        try:
            incoming.replace(target)
        except FileNotFoundError:
            self._make_parents(target)
            incoming.replace(target)

    def _make_parents(self, target: Path) -> None:
        directory = self._root
        for name in PurePosixPath(target.relative_to(self._root)).parent.parts:
            above, directory = directory, directory / name
            if self._make_directory(directory):
                _sync_directory(above)

    def _make_directory(self, directory: Path) -> bool:
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError:
            return False
        directory.chmod(self._mode)  # mkdir would subtract the umask
        return True

    def _remove_abandoned(self) -> None:
        before = time.time() - ABANDONED_SECONDS
        for one in self._incoming.iterdir():
            with suppress(OSError):  # tidying must not keep a process from starting
                if one.lstat().st_mtime < before:
                    one.unlink()

    @contextmanager
    def _naming(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = error.strerror or str(error)
            advice = "check that it is mounted, writable for this user and not full"
            raise ArtifactStoreUnavailable(f"{what} in the directory {self._root}: {why}; {advice}") from error


def _sync_directory(directory: Path) -> None:
    """Without it a power cut may take back a rename that the store's rows already tell about."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
