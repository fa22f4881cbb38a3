"""The control groups of a sandbox: what the kernel itself counts of it, and holds it to."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC, _ROOT = Path("/proc"), Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class ControlGroups:
    """Directory by controller, below the root; '' is the unified hierarchy. Empty where none of them is in sight."""

    directories: Mapping[str, Path]

    def read(self, controller: str, first: str, unified: str) -> str | None:
        """The text of a file, by its name in version 1 and 2 of the control groups; None when it cannot be seen."""
        if controller in self.directories:
            file = _ROOT / controller / self.directories[controller] / first
        elif "" in self.directories:
            file = _ROOT / self.directories[""] / unified
        else:
            return None
        with suppress(OSError):
            return file.read_text()
        return None


def groups_of(process_id: int | None, sandbox: str) -> ControlGroups:
    """The groups of a sandbox by one of its processes (None: it has none). Empty for one that is not the sandbox's.

    An engine in another namespace of process ids names other processes than this one sees; and a process that has
    ended may have left its id to another.
    """
    found: dict[str, Path] = {}
    if process_id is None:
        return ControlGroups(found)
    with suppress(OSError):
        for line in (_PROC / str(process_id) / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if sandbox in path:
                found |= dict.fromkeys(controllers.split(","), Path(path.lstrip("/")))
    return ControlGroups(found)
