"""A small file system of the test's own, to be filled to its last byte."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import missing

LET_GO_SECONDS = 30.0
_STEPS = (64 << 20, 1 << 20, 4096, 1)


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """ext4 on a loop device, mounted at `top`."""

    top: Path

    def fill(self) -> None:
        """Take every byte that is free. What is freed while it is full is taken by the next call."""
        with (self.top / "filling").open("ab", buffering=0) as file:
            for size in _STEPS:
                with suppress(OSError):
                    while True:
                        file.write(b"\0" * size)

    def leave(self, size_bytes: int) -> None:
        """Take all but so many bytes. The disk is never fuller than that: a loop device on it would lose a write."""
        with (self.top / "filling").open("ab", buffering=0) as file:
            taken = self.free_bytes - size_bytes
            if taken > 0:
                os.posix_fallocate(file.fileno(), file.tell(), taken)

    def free(self) -> None:
        (self.top / "filling").unlink()

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self.top)
        return found.f_bavail * found.f_frsize


@contextmanager
def small_disk(directory: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """Make and mount one below `directory`; afterwards it is unmounted and gone, whatever the test did."""
    if os.geteuid() != 0:
        missing("the right to mount", "run the tests as root")
    image, top = directory / "disk.img", directory / "disk"
    top.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(size_bytes)
    _run("mkfs.ext4", "-q", "-m", "0", "-F", str(image))
    _run("mount", "-o", "loop,nosuid,nodev", str(image), str(top))
    try:
        yield SmallDisk(top)
    finally:
        _unmount(top)
        image.unlink()


def _unmount(top: Path) -> None:
    """Processes that were killed a moment ago may hold it yet."""
    deadline = time.monotonic() + LET_GO_SECONDS
    while subprocess.run(["umount", "--recursive", str(top)], capture_output=True, check=False).returncode != 0:
        if time.monotonic() > deadline:
            _run("umount", "--recursive", "--lazy", str(top))
            raise AssertionError(f"something still uses {top}")
        time.sleep(0.1)


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)} ended with {done.returncode}: {done.stderr}"
