"""What a sandbox uses, by the kernel's own count: it costs microseconds, and the engine is not asked."""

from __future__ import annotations

from contextlib import suppress

from workers.cgroups import ControlGroups
from workers.sandbox.port import SandboxUse


def used(groups: ControlGroups) -> SandboxUse | None:
    """What it uses now; None where that is not in sight, or not any more because the sandbox has ended."""
    cpu_seconds, memory_bytes = _cpu_seconds(groups), _memory_bytes(groups)
    if cpu_seconds is None or memory_bytes is None:
        return None
    return SandboxUse(cpu_seconds, memory_bytes)


def _cpu_seconds(groups: ControlGroups) -> float | None:
    """Nanoseconds in version 1 of the control groups, microseconds among other counts in version 2."""
    text = groups.read("cpuacct", "cpuacct.usage", "cpu.stat")
    if text is None:
        return None
    if text.strip().isdecimal():
        return int(text) / 1e9
    microseconds = _counts(text).get("usage_usec")
    return None if microseconds is None else microseconds / 1e6


def _memory_bytes(groups: ControlGroups) -> int | None:
    """Without the page cache that nothing has used of late, as `docker stats` shows it: it is given back when needed.

    The kernel's own peak counts that cache, so that a task which reads a large file would seem to need all of it.
    """
    held = groups.read("memory", "memory.usage_in_bytes", "memory.current")
    counted = groups.read("memory", "memory.stat", "memory.stat")
    if held is None or counted is None or not held.strip().isdecimal():
        return None
    counts = _counts(counted)
    droppable = counts.get("total_inactive_file", counts.get("inactive_file", 0))
    return int(held) - droppable if droppable < int(held) else int(held)


def _counts(text: str) -> dict[str, int]:
    """Lines of a name and a number; others are left out."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        with suppress(ValueError):
            name, count = line.split()
            found[name] = int(count)
    return found
