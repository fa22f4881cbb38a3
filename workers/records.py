"""Journal records a worker writes about an attempt."""

from __future__ import annotations

from datetime import datetime

from orchestrator import clock
from orchestrator.models import Artifact, Kind, NewRecord


def gap(message: str, dropped_bytes: int | None = None) -> NewRecord:
    """Something is missing here; `dropped_bytes` None when nobody knows how much."""
    return NewRecord(Kind.GAP, clock.now(), body={"dropped_bytes": dropped_bytes, "message": message})


def words(text: str, at: datetime) -> NewRecord:
    """The product's own words about what a command or agent printed at `at`; nothing in them is secret."""
    return NewRecord(Kind.SYSTEM, at, "system", {"message": text})


def artifact_stored(one: Artifact) -> NewRecord:
    body = {
        "path": one.path,
        "name": one.name,
        "size_bytes": one.size_bytes,
        "checksum": f"sha256:{one.sha256}",
    }
    return NewRecord(Kind.ARTIFACT, one.created_at, body={"artifact": body})


def progress_made(
    at: datetime,
    output_bytes: int,
    *,
    percent: float | None = None,
    text: str | None = None,
    tool_calls: int = 0,
    current_tool: str | None = None,
) -> NewRecord:
    """How far a task is, as lists show it; `output_bytes` are those of all its attempts."""
    body = {
        "percent": percent,
        "text": text,
        "output_bytes": output_bytes,
        "tool_calls": tool_calls,
        "current_tool": current_tool,
        "last_activity_at": clock.text(at),
    }
    return NewRecord(Kind.PROGRESS, at, body=body)
