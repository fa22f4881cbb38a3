"""The disk of a task: an ext4 file system in a sparse file (isolation-and-faults.md §2).

The file is made by us and never given to a task, which sees directories of the mounted file system only.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import struct
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from workers import loop_device

log = logging.getLogger(__name__)

KIB, MIB = 1 << 10, 1 << 20
BLOCK_BYTES = 4096
BYTES_PER_INODE = 16384
INODE_BYTES = 256
MAKE_SECONDS = 60.0
BUSY_SECONDS = 2.0
_ALSO_THERE = "/usr/sbin:/sbin"
"""A service's path may lack the directories of mkfs."""
_OPTIONS = "discard,noinit_itable,errors=remount-ro"
"""`discard`: what a task deletes is the host's again. `noinit_itable`: a sparse file needs no zeroes written."""
_SHUT_DOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN."""
_WITHOUT_LOG = struct.pack("=I", 2)
"""EXT4_GOING_FLAGS_NOLOGFLUSH."""


class DiskUnavailable(OSError):
    """A task's disk could not be made or mounted; the message says why."""


def journal_bytes(size_bytes: int) -> int:
    """Small: it holds metadata only, and becomes real space of the host as soon as it was written through once."""
    if size_bytes < 32 * MIB:
        return 0
    return 4 * MIB if size_bytes < 512 * MIB else 16 * MIB


def image_bytes(size_bytes: int) -> int:
    """The size of an image that holds `size_bytes` of files: beside them lie ext4's own structures."""
    inode_tables = size_bytes // (BYTES_PER_INODE // INODE_BYTES - 1)
    kept_back = min(size_bytes // 42, 17 * MIB)  # ext4 itself keeps 2 %, at most 4096 blocks, for its metadata
    groups = size_bytes // 4096 + 512 * KIB
    total = size_bytes + inode_tables + kept_back + groups + journal_bytes(size_bytes)
    return -(-total // BLOCK_BYTES) * BLOCK_BYTES


def make(image: Path, size_bytes: int) -> None:
    """Make the file system in the file `image`, which must not exist. Raises `OSError`."""
    program = shutil.which("mkfs.ext4") or shutil.which("mkfs.ext4", path=_ALSO_THERE)
    if program is None:
        raise DiskUnavailable("mkfs.ext4 is not installed; install e2fsprogs")
    with image.open("xb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.truncate(image_bytes(size_bytes))
    journal = journal_bytes(size_bytes) // MIB
    argv = [program, "-q", "-F", "-m", "0", "-b", str(BLOCK_BYTES), "-i", str(BYTES_PER_INODE), "-I", str(INODE_BYTES)]
    argv += ["-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0", "-O", "^resize_inode"]
    argv += ["-J", f"size={journal}"] if journal else ["-O", "^has_journal"]
    try:
        done = subprocess.run(
            [*argv, str(image)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=MAKE_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise DiskUnavailable(f"mkfs.ext4 of {image} took longer than {MAKE_SECONDS:g} s") from error
    if done.returncode != 0:
        raise DiskUnavailable(f"mkfs.ext4 of {image} failed: {done.stderr.strip()}")


def mount(image: Path, top: Path) -> None:
    """Mount the image at the directory `top`. Raises `OSError`."""
    with loop_device.attached(image) as device:
        mount_device(device, top)


def mount_device(device: Path, top: Path) -> None:
    """Mount the image that is attached to a loop device. Raises `OSError`."""
    loop_device.mount(device, top, "ext4", _OPTIONS)


def is_mounted(top: Path) -> bool:
    """Tell whether a file system is mounted at `top`. Raises `OSError` when that cannot be seen."""
    try:
        return top.lstat().st_dev != top.parent.lstat().st_dev
    except (FileNotFoundError, NotADirectoryError):
        return False


def discard(top: Path) -> None:
    """Unmount what is mounted at `top`; what of it is not on the host's disk yet is thrown away. Raises `OSError`.

    What is in use for longer than `BUSY_SECONDS` is taken out of the directory tree; the kernel frees it later.
    """
    while is_mounted(top):
        _shut_down(top)
        deadline = time.monotonic() + BUSY_SECONDS
        while not _unmounted(top):
            if time.monotonic() > deadline:
                log.warning("a task's disk is in use, its space is freed when that ends", extra={"disk": str(top)})
                loop_device.unmount(top, loop_device.DETACH)
                break
            time.sleep(0.02)


def _shut_down(top: Path) -> None:
    """Without this, an unmount waits until gigabytes that nobody wants any more are written (7 s for one)."""
    with suppress(OSError):  # a kernel that cannot do that unmounts all the same
        directory = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.ioctl(directory, _SHUT_DOWN, _WITHOUT_LOG)
        finally:
            os.close(directory)


def _unmounted(top: Path) -> bool:
    try:
        loop_device.unmount(top)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True
