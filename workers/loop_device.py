"""Loop devices and the mounts of file systems on them, by the kernel's own calls (loop(4), mount(2), umount(2)).

Not by the programs `losetup` and `mount`: those are processes of their own, which would go on after the worker was
killed, and a container has no device file for a device that the kernel adds.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CONTROL = Path("/dev/loop-control")
_GET_FREE = 0x4C82
_CONFIGURE = 0x4C0A
_AUTOCLEAR = 4
_CONFIG = struct.Struct("=IIQQQQQIIII64s64s32sQQ64x")
"""`struct loop_config`: file, block size; then `struct loop_info64`; then what is reserved."""
_TRIES = 100
"""Another process may take the free device that the kernel named."""

_MOUNT_FLAGS = 2 | 4 | 1024
"""MS_NOSUID, MS_NODEV, MS_NOATIME."""
DETACH, NO_LINKS = 2, 8
"""MNT_DETACH, UMOUNT_NOFOLLOW."""

_kernel = ctypes.CDLL(None, use_errno=True)


@contextmanager
def attached(image: Path) -> Iterator[Path]:
    """The device file of a loop device on `image`. Raises `OSError`.

    The device frees itself when nobody has it open any more: after this block, and after the unmounting of what was
    mounted from it, also when this process is killed anywhere in between.
    """
    file = os.open(image, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        device, descriptor = _configured(file, image)
    finally:
        os.close(file)
    try:
        yield device
    finally:
        os.close(descriptor)


def _configured(file: int, image: Path) -> tuple[Path, int]:
    name = os.fsencode(image)[-63:]
    config = _CONFIG.pack(file, 0, 0, 0, 0, 0, 0, 0, 0, 0, _AUTOCLEAR, name, b"", b"", 0, 0)
    for _ in range(_TRIES):
        device, descriptor = _free_device()
        try:
            fcntl.ioctl(descriptor, _CONFIGURE, config)
        except OSError as error:
            os.close(descriptor)
            if error.errno != errno.EBUSY:
                raise
        else:
            return device, descriptor
    raise OSError(errno.EBUSY, f"no loop device for {image}: others took each that was free; try again")


def _free_device() -> tuple[Path, int]:
    control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        name = f"loop{fcntl.ioctl(control, _GET_FREE)}"
    finally:
        os.close(control)
    device = Path("/dev", name)
    if not device.exists():
        major, minor = Path("/sys/block", name, "dev").read_text().split(":")
        with suppress(FileExistsError):
            os.mknod(device, stat.S_IFBLK | 0o600, os.makedev(int(major), int(minor)))
    return device, os.open(device, os.O_RDWR | os.O_CLOEXEC)


def mount(device: Path, top: Path, kind: str, options: str) -> None:
    """Mount a file system, without set-user-id programs, devices and access times. Raises `OSError`."""
    words = (os.fsencode(device), os.fsencode(top), kind.encode())
    if _kernel.mount(*words, ctypes.c_ulong(_MOUNT_FLAGS), options.encode()) != 0:
        _fail(f"mount of {device} on {top}")


def unmount(top: Path, flags: int = 0) -> None:
    """Unmount what is mounted at `top`, never through a link. Raises `OSError`."""
    if _kernel.umount2(os.fsencode(top), flags | NO_LINKS) != 0:
        _fail(f"umount of {top}")


def _fail(what: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, f"{what} failed: {os.strerror(number)}")
