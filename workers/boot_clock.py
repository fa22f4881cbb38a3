"""The host's own count of seconds since it booted, in a form that can be stored: no clock change moves it."""

from __future__ import annotations

import time
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def now() -> str:
    """This instant: the boot it belongs to, and seconds since then (sleep included)."""
    return f"{BOOT_ID.read_text().strip()} {time.clock_gettime(time.CLOCK_BOOTTIME):.3f}"


def elapsed(since: str) -> float | None:
    """Seconds since `now()` gave that; None when the host was booted again meanwhile."""
    boot, _, seconds = since.partition(" ")
    present, _, at = now().partition(" ")
    return float(at) - float(seconds) if boot == present else None
