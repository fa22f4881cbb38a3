"""What an attempt has written onto its disk, and whether that is too much."""

from __future__ import annotations

import errno
import math
import os
import stat
import time
from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import dataclass

from workers import disk_image

LEAST_INODES = 1024
MAX_DEPTH = 128
BLOCK_BYTES = 512
"""What `st_blocks` counts, on every file system (stat(2))."""
SPACE, INODES = "space", "inodes"
MARGIN_BYTES = 2 << 20
"""A write is given space in pieces of up to a huge page (2 MiB), and refused where the next piece does not fit."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Use:
    """What is in use. `full` says of what nothing is left (`SPACE`, `INODES`); `broken`: the kernel takes no writes.

    `at_least`: not everything could be looked at, and more may be in use.
    """

    bytes_used: int
    full: str | None = None
    broken: bool = False
    at_least: bool = False


def of_file_system(top: int) -> Use:
    """The use of the file system of a descriptor, by the kernel's count. Raises `OSError`."""
    found = os.statvfs(top)
    size, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
    full = None
    if free < min(MARGIN_BYTES, size // 10):
        full = SPACE
    elif found.f_favail == 0:
        full = INODES
    broken = bool(found.f_flag & os.ST_RDONLY)
    return Use(size - found.f_bfree * found.f_frsize, full, broken)


def takes_writes(top: int) -> bool:
    """Try it, by a file without a name: kernels from 6.15 on tell nobody else that they stopped writing.

    A file system that is full takes writes in this sense: what it refuses is told otherwise.
    """
    try:
        os.close(os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=top))
    except OSError as error:
        return error.errno not in (errno.EROFS, errno.EIO)
    return True


def of_tree(top: int, limit_bytes: int, *, seconds: float = math.inf) -> Use:
    """The use of the tree below a directory's descriptor, by looking at each file; what was seen in `seconds`.

    Without `seconds` no number of small files hides a large one; only how many there may be bounds the walk. As many
    files as an ext4 of this size would hold are too many, and so are directories nested too deep to be looked
    into. Follows no link, crosses no mount. Raises `OSError` when `top` cannot be read.
    """
    most, deadline = max(limit_bytes // disk_image.BYTES_PER_INODE, LEAST_INODES), time.monotonic() + seconds
    directory = os.open(".", _DIRECTORY, dir_fd=top)
    total = count = 0
    linked: set[int] = set()
    with closing(_below(directory, os.fstat(top).st_dev, 1)) as below:
        for found, depth in below:
            count += 1
            if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
                if found.st_ino in linked:
                    continue
                linked.add(found.st_ino)
            total += found.st_blocks * BLOCK_BYTES
            if total > limit_bytes:
                return Use(total, SPACE)
            if count > most or depth > MAX_DEPTH:
                return Use(total, INODES)
            if time.monotonic() > deadline:
                return Use(total, at_least=True)
    return Use(total)


def _below(directory: int, device: int, depth: int) -> Generator[tuple[os.stat_result, int], None, None]:
    """The status and depth of everything below a directory, also while a task changes it. Closes `directory`."""
    try:
        with suppress(OSError), os.scandir(directory) as entries:
            for entry in entries:
                with suppress(OSError):  # it vanished, or became something else, since it was listed
                    found = entry.stat(follow_symlinks=False)
                    yield found, depth
                    if stat.S_ISDIR(found.st_mode) and found.st_dev == device and depth <= MAX_DEPTH:
                        yield from _below(os.open(entry.name, _DIRECTORY, dir_fd=directory), device, depth + 1)
    finally:
        os.close(directory)
