"""The disk below the workspaces: what happens when it gets low."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass

from orchestrator.store import attempts as attempt_rows
from workers.adopt import destroy_preserved
from workers.equipment import Equipment

log = logging.getLogger(__name__)

RESUME_PERCENT = 1.0
"""So much above the mark must be free again before tasks are taken: at the mark itself a worker would flutter."""


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes of the file system that holds the workspaces; `free` is what an unprivileged process may still use."""

    total: int
    free: int

    @property
    def free_percent(self) -> float:
        return 100.0 * self.free / max(self.total, 1)

    def __str__(self) -> str:
        return f"{self.free / (1 << 30):.1f}G of {self.total / (1 << 30):.1f}G ({self.free_percent:.1f} %)"


class DiskWatch:
    """Looks at the disk now and then. Used by one thread."""

    def __init__(self, equipment: Equipment) -> None:
        self._equipment = equipment
        self._settings = equipment.product.settings
        self.trouble: str | None = None
        """What keeps the worker from taking tasks, if anything."""

    def look(self) -> None:
        """Destroy the oldest preserved sandboxes while too little is free; decide whether tasks may be taken.

        Raises `EngineUnavailable`, `StoreUnavailable`, `OSError`.
        """
        space = self._space()
        if space.free_percent < self._settings.disk_reap_percent:
            space = self._reap(space)
        least = self._settings.disk_stop_percent + (RESUME_PERCENT if self.trouble else 0.0)
        if space.free_percent >= least:
            self.trouble = None
            return
        if self.trouble is None:
            log.error("disk low, no tasks are taken", extra={"free": str(space)})
        self.trouble = (
            f"its disk is nearly full: {space} are free below {self._settings.work_dir}, and it takes no tasks below "
            f"{self._settings.disk_stop_percent:g} %; free space there, or lower SANDBOX_DISK_STOP_PERCENT"
        )

    def _reap(self, space: Space) -> Space:
        """One preserved sandbox after the other, the oldest first, until enough is free."""
        with self._equipment.product.database.read() as tx:
            preserved = attempt_rows.preserved_rows(tx, self._settings.worker_name)
        for row in preserved:
            if space.free_percent >= self._settings.disk_reap_percent:
                break
            log.warning(
                "disk low, preserved sandbox is destroyed before its time",
                extra={"task": row.task_id, "attempt": row.number, "free": str(space)},
            )
            destroy_preserved(self._equipment, [row])
            space = self._space()
        return space

    def _space(self) -> Space:
        usage = shutil.disk_usage(self._settings.work_dir)
        return Space(usage.total, usage.free)
