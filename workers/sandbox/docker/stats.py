"""What `GET /containers/{id}/stats` tells of a container, in the port's words (pure)."""

from __future__ import annotations

from typing import Any

from workers.sandbox.port import SandboxUse


def use_of(told: dict[str, Any]) -> SandboxUse | None:
    """None of a container that does not run: the engine answers with zeros, and without its memory."""
    memory, cpu = told.get("memory_stats") or {}, told.get("cpu_stats") or {}
    held, nanoseconds = memory.get("usage"), (cpu.get("cpu_usage") or {}).get("total_usage")
    if held is None or nanoseconds is None:
        return None
    counts = memory.get("stats") or {}
    droppable = counts.get("total_inactive_file", counts.get("inactive_file", 0))
    return SandboxUse(nanoseconds / 1e9, int(held - droppable if droppable < held else held))
