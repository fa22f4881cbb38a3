"""The disk below the workspaces: what happens when it gets low."""

from __future__ import annotations

import logging

from orchestrator.store import attempts as attempt_rows
from workers.adopt import destroy_preserved
from workers.equipment import Equipment
from workers.host_space import Space, floor_bytes

log = logging.getLogger(__name__)

RESUME_PERCENT = 1.0
"""So much above the mark must be free again before tasks are taken: at the mark itself a worker would flutter."""


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
        if space.free < self._reap_bytes(space):
            space = self._reap(space)
        floor = floor_bytes(self._settings, space.total)
        if space.free >= floor + (int(space.total * RESUME_PERCENT / 100) if self.trouble else 0):
            self.trouble = None
            return
        if self.trouble is None:
            log.error("disk low, no tasks are taken", extra={"free": str(space)})
        self.trouble = (
            f"its disk is nearly full: {space} are free below {self._settings.work_dir}, and it takes no tasks below "
            f"{floor / (1 << 30):.1f}G; free space there, or lower SANDBOX_DISK_STOP_PERCENT or SANDBOX_DISK_STOP_BYTES"
        )

    def _reap(self, space: Space) -> Space:
        """One preserved sandbox after the other, the oldest first, until enough is free."""
        with self._equipment.product.database.read() as tx:
            preserved = attempt_rows.preserved_rows(tx, self._settings.worker_name)
        for row in preserved:
            if space.free >= self._reap_bytes(space):
                break
            log.warning(
                "disk low, preserved sandbox is destroyed before its time",
                extra={"task": row.task_id, "attempt": row.number, "free": str(space)},
            )
            destroy_preserved(self._equipment, [row])
            space = self._space()
        return space

    def _reap_bytes(self, space: Space) -> int:
        """Preserved sandboxes make room before tasks have to wait."""
        asked = int(space.total * self._settings.disk_reap_percent / 100)
        return max(asked, floor_bytes(self._settings, space.total))

    def _space(self) -> Space:
        return Space.of(self._settings.work_dir)
