"""The host's own count of seconds since it booted, in a form that can be stored: no clock change moves it."""

from __future__ import annotations

from pathlib import Path

from orchestrator.clock import boot_seconds

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def now() -> str:
    """This instant: the boot it belongs to, and its seconds."""
    return f"{BOOT_ID.read_text().strip()} {boot_seconds():.3f}"


def elapsed(since: str) -> float | None:
    """Seconds since `now()` gave that; None when the host was booted again meanwhile."""
    boot, _, then = since.partition(" ")
    present, _, at = now().partition(" ")
    return float(at) - float(then) if boot == present else None
