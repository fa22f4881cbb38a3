"""Wall-clock time as the product writes it."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """The present instant, aware, UTC."""
    return datetime.now(UTC)


def text(at: datetime) -> str:
    """RFC 3339, UTC, microseconds, `Z` (contract, preamble)."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse(raw: str) -> datetime:
    """Read an RFC 3339 instant; raise `ValueError` when it is none or has no offset."""
    at = datetime.fromisoformat(raw)
    if at.tzinfo is None:
        raise ValueError(f"{raw!r} has no time zone; write it like 2026-01-29T12:00:00Z")
    return at.astimezone(UTC)
