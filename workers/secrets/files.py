"""`source: file`: files below one directory of the operator's."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from workers.secrets.port import MAX_VALUE_BYTES, SecretRefused

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Without O_NONBLOCK the opening of a fifo would wait for a writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class FileSource:
    """See `Source`. Each part of a key is opened inside the one before and no link is followed, so that none leads
    out; `directory` itself may be a link. One newline at a file's end is not part of its value.
    """

    directory: Path | None

    def read(self, key: str) -> bytes:
        if self.directory is None:
            raise SecretRefused("it has no directory of secrets", "the operator names one in SANDBOX_SECRETS_DIR")
        parts = key.split("/")
        if {"", ".", ".."} & set(parts) or "\0" in key:
            raise SecretRefused("the key is no plain relative path", "write the path below the operator's directory")
        try:
            return _read(_open(self.directory, parts)).removesuffix(b"\n")
        except OSError as error:  # ELOOP or ENOTDIR: a link
            raise SecretRefused(
                f"the file cannot be read ({error.strerror})",
                f"the operator puts a plain file {key} below SANDBOX_SECRETS_DIR; links are not followed",
            ) from None


def _open(directory: Path, parts: list[str]) -> int:
    """Return a descriptor of the file. Raises `OSError`."""
    at = os.open(directory, _DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = inner
        return os.open(parts[-1], _FILE, dir_fd=at)
    finally:
        os.close(at)


def _read(descriptor: int) -> bytes:
    """Closes `descriptor`. Raises `SecretRefused`, `OSError`."""
    try:  # fdopen would refuse a directory, and leave the descriptor open
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SecretRefused("the key leads to something that is no file", "name a plain file in the key")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_VALUE_BYTES + 2)
    finally:
        os.close(descriptor)
