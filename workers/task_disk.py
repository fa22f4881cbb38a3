"""How `vm.disk` is held on this host: by a file system of that size for each task, or by watching what it writes."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from orchestrator.fault_points import reach
from workers import disk_image, loop_device, tree

log = logging.getLogger(__name__)

IMAGE_NAME = "disk.img"
TOP_NAME = "disk"
WATCH_SECONDS = 5.0
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

    mechanism = f"watched every {WATCH_SECONDS:g} s"

    def create(self, root: Path, size_bytes: int) -> None:  # noqa: ARG002 - the watch knows the size
        top = root / TOP_NAME
        top.mkdir()
        top.chmod(0o755)


def restore(root: Path) -> None:
    """Mount the image of an attempt again, which a boot of the host has unmounted. Raises `OSError`."""
    image, top = root / IMAGE_NAME, root / TOP_NAME
    with _restoring:  # two mounts of one image would destroy it
        if image.exists() and top.exists() and not disk_image.is_mounted(top):
            disk_image.mount(image, top)
            log.info("a task's disk is mounted again", extra={"disk": str(top)})


_restoring = threading.Lock()


def destroy(root: Path) -> None:
    """Remove an attempt's directory and its disk; harmless when there is none.

    Raises `OSError`: nothing is removed through a mount that could not be taken away.
    """
    if disk_image.is_mounted(root / TOP_NAME):
        disk_image.discard(root / TOP_NAME)
        reach("disk_unmounted")
    tree.remove(root)


class TaskDisks:
    """Chooses the kind of disk for this process, once. Thread-safe.

    `sees(path)` asks the engine whether it has what is mounted there; it may raise `EngineUnavailable`.
    """

    def __init__(self, work_dir: Path, sees: Callable[[Path], bool]) -> None:
        self._work_dir = work_dir
        self._sees = sees
        self._lock = threading.Lock()
        self._chosen: TaskDisk | None = None

    def chosen(self) -> TaskDisk:
        """Return the kind of disk that tasks get here. Raises `EngineUnavailable`: ask again."""
        with self._lock:
            if self._chosen is None:
                why = why_no_images(self._work_dir, self._sees)
                self._chosen = WatchedDisk() if why else ImageDisk()
                log.info("disks of tasks", extra={"mechanism": self._chosen.mechanism, "because": why})
            return self._chosen


def why_no_images(work_dir: Path, sees: Callable[[Path], bool]) -> str | None:
    """Try it: make an image below `work_dir`, mount it, ask the engine for it. None when all of that works.

    Raises `EngineUnavailable`. Nothing of it is left; what a killed process leaves is removed as an orphan.
    """
    if os.geteuid() != 0:
        return "only root may mount file systems"
    root = work_dir / f".disk-probe-{secrets.token_hex(4)}"
    inside = root / TOP_NAME / "seen"
    try:
        work_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
        root.mkdir()
        (root / TOP_NAME).mkdir()
        try:
            disk_image.make(root / IMAGE_NAME, _PROBE_BYTES)
            disk_image.mount(root / IMAGE_NAME, root / TOP_NAME)
            inside.mkdir()
            seen = sees(inside)
        finally:
            disk_image.discard(root / TOP_NAME)
            tree.remove(root)
    except OSError as error:
        return f"no file system can be mounted below {work_dir}: {error}"
    return None if seen else f"the engine does not see what this process mounts below {work_dir}"
