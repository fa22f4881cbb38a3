"""Journal records a worker writes about an attempt."""

from __future__ import annotations

from orchestrator import clock
from orchestrator.models import Artifact, Kind, NewRecord


def gap(message: str, dropped_bytes: int | None = None) -> NewRecord:
    """Something is missing here; `dropped_bytes` None when nobody knows how much."""
    return NewRecord(Kind.GAP, clock.now(), body={"dropped_bytes": dropped_bytes, "message": message})


def artifact_stored(one: Artifact) -> NewRecord:
    body = {
        "path": one.path,
        "name": one.name,
        "size_bytes": one.size_bytes,
        "checksum": f"sha256:{one.sha256}",
    }
    return NewRecord(Kind.ARTIFACT, one.created_at, body={"artifact": body})
