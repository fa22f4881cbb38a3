"""Durations as a clock shows them."""

from __future__ import annotations


def clock_face(seconds: float) -> str:
    """Return `00:42`, `1:02:03` or `2d 03:04`; what is below zero, because clocks differ, is zero."""
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60 % 60, whole // 3600 % 24, whole // 86400
    if days:
        return f"{days}d {hours:02}:{minutes:02}"
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes:02}:{whole % 60:02}"
