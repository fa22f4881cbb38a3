"""Durations and sizes as people write them; the only place that parses and writes them (pure)."""

from __future__ import annotations

import re

DURATION_PATTERN = r"^[0-9]{1,9}[smh]$"
"""What `duration_seconds` accepts, as an ECMA 262 pattern for the published schema."""

SIZE_PATTERN = r"^[0-9]{1,9}[MG]$"
"""What `size_bytes` accepts, as an ECMA 262 pattern for the published schema."""

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_BYTES = {"M": 1 << 20, "G": 1 << 30}

_DURATION = re.compile(r"([0-9]{1,9})([smh])", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,9})([MG])", re.ASCII)


def duration_seconds(text: str) -> int:
    """Return the seconds that `text` names: `<n>s`, `<n>m` or `<n>h`, n of at most nine digits.

    Raises `ValueError` for any other text.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text[:40]!r} is not a duration: a duration is a whole number and one of the units s, m, h; "
            "write for example 90s, 15m or 24h"
        )
    return int(match[1]) * _SECONDS[match[2]]


def size_bytes(text: str) -> int:
    """Return the bytes that `text` names: `<n>M` or `<n>G` in powers of 1024, n of at most nine digits.

    Raises `ValueError` for any other text.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text[:40]!r} is not a size: a size is a whole number and one of the units M, G "
            "(powers of 1024); write for example 512M or 8G"
        )
    return int(match[1]) * _BYTES[match[2]]


def size_text(size: int) -> str:
    """Return a number of bytes as a manifest would name it, rounded to whole mebibytes."""
    mebibytes = round(size / _BYTES["M"])
    return f"{mebibytes // 1024}G" if mebibytes and mebibytes % 1024 == 0 else f"{mebibytes}M"
