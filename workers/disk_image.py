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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
_LOOP_MAJOR = 7
"""The number of the loop devices' driver, in Linux for good (devices.txt)."""
_ROOT_INODE = 2
"""The root directory of every ext4."""
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class DiskUnavailable(OSError):
    """A task's disk could not be made or mounted; the message says why."""


class MkfsMissing(DiskUnavailable):
    """The program that makes file systems is not installed."""


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
        raise MkfsMissing("mkfs.ext4 is not installed; install e2fsprogs")
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
        with opened(top) as (_, mounted):
            return mounted
    except (FileNotFoundError, NotADirectoryError):
        return False


@contextmanager
def opened(top: Path) -> Iterator[tuple[int, bool]]:
    """A descriptor of the directory `top` (`O_PATH`), and whether a file system is mounted there. Raises `OSError`.

    Both tell of one moment, and the descriptor stays what it was: a path may lead to the file system below by the next
    step, when somebody unmounts.
    """
    parent = os.open(top.parent, _PLACE)
    try:
        directory = os.open(top.name, _PLACE, dir_fd=parent)
        try:
            yield directory, os.fstat(directory).st_dev != os.fstat(parent).st_dev
        finally:
            os.close(directory)
    finally:
        os.close(parent)


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
                _unmounted(top, loop_device.DETACH)
                break
            time.sleep(0.02)


def _shut_down(top: Path) -> None:
    """Without this, an unmount waits until gigabytes that nobody wants any more are written (7 s for one).

    It ends all use of a file system at once, the host's too: what it is given is looked at by its descriptor.
    """
    with suppress(OSError), opened(top) as (directory, mounted):  # a kernel that cannot do that unmounts all the same
        if not mounted or not _is_root_on_loop_device(directory):
            return
        readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
        try:
            fcntl.ioctl(readable, _SHUT_DOWN, _WITHOUT_LOG)
        finally:
            os.close(readable)


def _is_root_on_loop_device(directory: int) -> bool:
    found = os.fstat(directory)
    return os.major(found.st_dev) == _LOOP_MAJOR and found.st_ino == _ROOT_INODE


def _unmounted(top: Path, flags: int = 0) -> bool:
    """Unmount, or find that another one has; False when it is in use. Raises `OSError`."""
    try:
        loop_device.unmount(top, flags)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        if error.errno not in (errno.EINVAL, errno.ENOENT) or is_mounted(top):
            raise
    return True
