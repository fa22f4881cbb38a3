"""How `vm.disk` is held on this host: by a file system of that size for each task, or by watching what it writes."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from orchestrator.fault_points import reach
from workers import disk_image, loop_device, tree

log = logging.getLogger(__name__)

IMAGE_NAME = "disk.img"
TOP_NAME = "disk"
WATCH_SECONDS = 5.0
LONGEST_REST_SECONDS = 60.0
"""A tree that takes long to add up is left alone for a multiple of that time, but never for longer than this."""
AGAIN_SECONDS = 60.0
"""So long a moment's failure to mount is taken for the truth."""
_LASTING = {errno.EPERM, errno.EACCES, errno.ENODEV, errno.ENXIO, errno.ENOTTY, errno.ENOSYS}
"""This kernel, or what this process may do, does not let it mount images: time alone changes nothing of that."""
_PROBE_BYTES = 1 << 20


class TaskDisk(Protocol):
    """One kind of disk. Thread-safe. What `create` made is undone by `destroy` of this module, whatever its kind.

    `mechanism` is what `applied` in the API says.
    """

    mechanism: str

    def create(self, root: Path, size_bytes: int) -> None:
        """Make the directory `TOP_NAME` in `root`, in which a task's files may lie. Raises `OSError`."""


class ImageDisk:
    """The kernel refuses what is beyond the size: the task's program is told that its disk is full."""

    mechanism = "ext4 image on a loop device"

    def create(self, root: Path, size_bytes: int) -> None:
        image, top = root / IMAGE_NAME, root / TOP_NAME
        disk_image.make(image, size_bytes)
        reach("disk_made")
        top.mkdir(0o755)
        with loop_device.attached(image) as device:
            reach("disk_attached")
            disk_image.mount_device(device, top)
        reach("disk_mounted")


class WatchedDisk:
    """Nothing refuses anything; a task that wrote too much is ended when the worker sees it."""

    mechanism = (
        f"watched every {WATCH_SECONDS:g} s, or {LONGEST_REST_SECONDS:g} s where there are very many files; "
        "a file that is deleted and still open is not seen"
    )

    def create(self, root: Path, size_bytes: int) -> None:  # noqa: ARG002 - the watch knows the size
        top = root / TOP_NAME
        top.mkdir()
        top.chmod(0o755)


def restore(root: Path) -> None:
    """Mount the image of an attempt again, which a boot of the host has unmounted. Raises `OSError`."""
    image, top = root / IMAGE_NAME, root / TOP_NAME
    if not image.exists():
        return
    with locked(root):  # two mounts of one image would destroy it
        if image.exists() and top.exists() and not disk_image.is_mounted(top):
            disk_image.mount(image, top)
            log.info("a task's disk is mounted again", extra={"disk": str(top)})


def destroy(root: Path, *, wait: bool = True) -> None:
    """Remove an attempt's directory and its disk; harmless when there is none, or when another one is first.

    Raises `OSError`: nothing is removed through a mount that could not be taken away; `BlockingIOError` where somebody
    has it `locked`, unless told to `wait`.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(root, wait=wait))
        except FileNotFoundError:
            return
        except NotADirectoryError:  # nothing of ours, and nothing can be mounted in it
            tree.remove(root)
            return
        if disk_image.is_mounted(root / TOP_NAME):
            disk_image.discard(root / TOP_NAME)
            reach("disk_unmounted")
        tree.remove(root)


@contextmanager
def locked(root: Path, *, wait: bool = True) -> Iterator[None]:
    """Keep all others, threads and processes alike, from mounting and removing the directory `root`.

    Raises `FileNotFoundError` when it is not there, or not there any more after a wait: what another one made in its
    place is none of the caller's business. Raises `BlockingIOError` when it is locked and not to be waited for.
    """
    directory = tree.open_directory(root)
    try:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise BlockingIOError(errno.EAGAIN, "another thread or process is at work in it", str(root)) from error
        if not os.path.samestat(os.fstat(directory), root.lstat()):
            raise FileNotFoundError(errno.ENOENT, "another one has replaced it", str(root))
        yield
    finally:
        os.close(directory)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no image can be mounted here; `lasting`: not by a moment's state of the host."""

    why: str
    lasting: bool


class TaskDisks:
    """Chooses the kind of disk for this process: once, unless a moment's failure decided. Thread-safe.

    `sees(path)` asks the engine whether it has what is mounted there; it may raise `EngineUnavailable`.
    """

    def __init__(self, work_dir: Path, sees: Callable[[Path], bool]) -> None:
        self._work_dir = work_dir
        self._sees = sees
        self._lock = threading.Lock()
        self._chosen: TaskDisk | None = None
        self._until = 0.0

    def chosen(self) -> TaskDisk:
        """Return the kind of disk that tasks get here. Raises `EngineUnavailable`: ask again."""
        with self._lock:
            if self._chosen is None or time.monotonic() >= self._until:
                refusal = refusal_of_images(self._work_dir, self._sees)
                self._chosen = WatchedDisk() if refusal else ImageDisk()
                passing = refusal is not None and not refusal.lasting
                self._until = time.monotonic() + AGAIN_SECONDS if passing else float("inf")
                because = refusal.why if refusal else None
                log.info("disks of tasks", extra={"mechanism": self._chosen.mechanism, "because": because})
            return self._chosen


def why_no_images(work_dir: Path, sees: Callable[[Path], bool]) -> str | None:
    """See `refusal_of_images`."""
    refusal = refusal_of_images(work_dir, sees)
    return refusal.why if refusal else None


def refusal_of_images(work_dir: Path, sees: Callable[[Path], bool]) -> Refusal | None:
    """Try it: make an image below `work_dir`, mount it, ask the engine for it. None when all of that works.

    Raises `EngineUnavailable`. Nothing of it is left; what a killed process leaves is removed as an orphan, and locked
    against that is what a living one has in work: a worker may run here while `sandbox doctor` tries.
    """
    if os.geteuid() != 0:
        return Refusal("only root may mount file systems", lasting=True)
    root = work_dir / f".disk-probe-{secrets.token_hex(4)}"
    inside = root / TOP_NAME / "seen"
    try:
        work_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
        root.mkdir()
        with locked(root):
            try:
                (root / TOP_NAME).mkdir()
                disk_image.make(root / IMAGE_NAME, _PROBE_BYTES)
                disk_image.mount(root / IMAGE_NAME, root / TOP_NAME)
                inside.mkdir()
                seen = sees(inside)
            finally:
                disk_image.discard(root / TOP_NAME)
                tree.remove(root)
    except OSError as error:
        return Refusal(f"no file system can be mounted below {work_dir}: {error}", lasting=_is_lasting(error))
    if seen:
        return None
    return Refusal(f"the engine does not see what this process mounts below {work_dir}", lasting=True)


def _is_lasting(error: OSError) -> bool:
    no_loop_devices = error.errno == errno.ENOENT and str(error.filename) == str(loop_device.CONTROL)
    return isinstance(error, disk_image.MkfsMissing) or error.errno in _LASTING or no_loop_devices
