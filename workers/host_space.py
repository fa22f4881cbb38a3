"""How much is free on a file system of the host, and how little is too little."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from orchestrator.settings import Settings

DEFAULT_FLOOR_BYTES = 5_000_000_000
LARGEST_SHARE = 5
"""The default floor is at most this part (a fifth) of a file system: on a small one nothing could be done else."""


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes of a file system; `free` is what an unprivileged process may still use."""

    total: int
    free: int

    @classmethod
    def of(cls, path: Path) -> Space:
        """The space where `path` lies. Raises `OSError`."""
        usage = shutil.disk_usage(path)
        return cls(usage.total, usage.free)

    @property
    def free_percent(self) -> float:
        return 100.0 * self.free / max(self.total, 1)

    def __str__(self) -> str:
        return f"{self.free / (1 << 30):.1f}G of {self.total / (1 << 30):.1f}G ({self.free_percent:.1f} %)"


def floor_bytes(settings: Settings, total: int) -> int:
    """With less free than this on a file system of `total` bytes, nothing new is begun there."""
    absolute = settings.disk_stop_bytes
    if absolute is None:
        absolute = min(DEFAULT_FLOOR_BYTES, total // LARGEST_SHARE)
    return max(absolute, int(total * settings.disk_stop_percent / 100))
