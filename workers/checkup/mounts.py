"""Which file system a path lies on, as the kernel tells."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs", "9p"}
)
MOUNT_INFO = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Mount:
    """`kind`: the file system's; `options`: those of the file system itself (pquota, …)."""

    point: str
    kind: str
    options: frozenset[str]


def mount_of(path: Path) -> Mount:
    """The mount that holds `path`."""
    place = path.resolve()
    above = [one for one in mounts(MOUNT_INFO.read_text()) if place.is_relative_to(one.point)]
    # Of several at one place the last one hides the others.
    return max(reversed(above), key=lambda one: len(one.point), default=Mount("/", "unknown", frozenset()))


def mounts(text: str) -> list[Mount]:
    """The lines of mountinfo (proc(5)): what stands behind ` - ` is kind, source, options of the file system."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind_fields = before.split(" "), after.split(" ")
        if len(fields) >= 5 and len(kind_fields) >= 3:
            found.append(Mount(_unescaped(fields[4]), kind_fields[0], frozenset(kind_fields[2].split(","))))
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda one: chr(int(one[1], 8)), text)
