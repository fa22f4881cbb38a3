"""The local side of a download: where a file may go, its unfinished bytes, its appearance by rename.

The bytes collect in a hidden file beside the target whose name is derived from the content's identity, so
that a later call goes on where an earlier one stopped and two versions never mix.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from api.client_errors import DownloadFailed, UnsafeName

_READ_BYTES = 1 << 20


def target_below(directory: Path, name: str) -> Path:
    """Return where the artifact `name` goes below `directory`; make the directories between them.

    Raises `UnsafeName` for a name that is absolute, climbs out, could mean something else on another
    system, or meets a symbolic link on the way; `DownloadFailed` when a directory cannot be made.
    """
    parts = name.split("/")
    if any(part in {"", ".", ".."} for part in parts) or not name.isprintable() or re.search(r"[\\:]", name):
        raise UnsafeName(
            f"the artifact {name!r} was not downloaded: its name could lead outside {directory}. "
            "Fetch it alone, with --output and a file name of your choice."
        )
    place = directory
    for part in parts[:-1]:
        place /= part
        refuse_symlink(place)
        make_directory(place)
    refuse_symlink(place / parts[-1])
    return place / parts[-1]


def make_directory(path: Path) -> None:
    """Make a directory and those above it; raise `DownloadFailed` when that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise local_failure(path, error) from error


def refuse_symlink(path: Path) -> None:
    """Raise `UnsafeName` when `path` is a symbolic link: what is behind it was not named by the user."""
    if path.is_symlink():
        raise UnsafeName(
            f"{path} is a symbolic link, and a download does not follow one. Remove it, or choose another --output."
        )


def local_failure(path: Path, error: OSError) -> DownloadFailed:
    """Say that this machine could not store the file."""
    return DownloadFailed(
        f"{path} cannot be written: {error.strerror or error}. What has arrived is kept; "
        "correct that and run the same command again."
    )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class PartialFile:
    """The bytes of one download so far, locked against a second download of the same; a context manager.

    Leaving the block keeps the bytes for a later call, unless `discard()` or `put_in_place()` was called or
    the content has no `identity` by which it could be found again.
    """

    def __init__(self, target: Path, identity: str | None) -> None:
        refuse_symlink(target)
        if target.is_dir():
            raise DownloadFailed(f"{target} is a directory; give a file name with --output.")
        self.target = target
        mark = hashlib.sha256(f"{target.name}\n{identity}".encode()).hexdigest()
        self.path = target.with_name(f".sandbox-{mark[:24]}.part")
        self.size = 0
        self._resumable = identity is not None
        self._digest = hashlib.sha256()

    def __enter__(self) -> Self:
        # O_NOFOLLOW and O_NONBLOCK: a link or a pipe that somebody laid here must neither lead away nor hang.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(self.path, flags, 0o666)
        self._file = os.fdopen(file, "r+b")
        try:
            self._take_over()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._resumable:
            self.discard()
        self._file.close()

    def append(self, chunk: bytes) -> None:
        """Add bytes at the end."""
        self._file.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)

    def restart(self) -> None:
        """Throw the bytes away and begin again."""
        self._file.seek(0)
        self._file.truncate()
        self._digest = hashlib.sha256()
        self.size = 0

    def sha256(self) -> str:
        """Return the SHA-256 of the bytes so far, in hex."""
        return self._digest.hexdigest()

    def discard(self) -> None:
        """Remove the file. Safe after `put_in_place` and when called again."""
        self.path.unlink(missing_ok=True)

    def put_in_place(self) -> None:
        """Make the bytes durable and let them appear as the target, all at once."""
        self._file.flush()
        os.fsync(self._file.fileno())
        refuse_symlink(self.target)
        self.path.replace(self.target)

    def _take_over(self) -> None:
        if not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
            raise DownloadFailed(f"{self.path} is in the way and no regular file; remove it and try again.")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DownloadFailed(
                f"{self.target} is being downloaded by another command now; wait for that one to end."
            ) from error
        while chunk := self._file.read(_READ_BYTES):
            self._digest.update(chunk)
            self.size += len(chunk)
