"""What can be seen of an installation from outside once it rests: plain records for the invariants to judge."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.e2e.faults.fleet_api import FleetApi
from tests.e2e.faults.witness import Life
from tests.e2e.submitting import Json


@dataclass(frozen=True, slots=True)
class ArtifactSeen:
    """An artifact as listed, and what its download gave."""

    path: str
    size_bytes: int
    checksum: str
    received_bytes: int
    received_sha256: str
    header_sha256: str


@dataclass(frozen=True, slots=True)
class TaskSeen:
    """One accepted task. `view` is None when the API does not know it; `records` are its whole journal."""

    task_id: str
    view: Json | None
    records: tuple[Json, ...] = ()
    by_attempt: Mapping[int, tuple[Json, ...]] = field(default_factory=dict)
    artifacts: tuple[ArtifactSeen, ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """`lives` are the engine's word, `leftovers` what is on the host and should not be, `logs` name → text.

    `clocks_agree` is false when a test gave processes another wall clock: their instants say nothing then.
    """

    tasks: tuple[TaskSeen, ...]
    lives: tuple[Life, ...] = ()
    leftovers: tuple[str, ...] = ()
    logs: Mapping[str, str] = field(default_factory=dict)
    clocks_agree: bool = True


def look_at(api: FleetApi, task_id: str) -> TaskSeen:
    """Read all that the API tells of a task."""
    answer = api.request("GET", f"/tasks/{task_id}")
    if answer.status_code != 200:
        return TaskSeen(task_id, None)
    view: Json = answer.json()
    numbers = [one["attempt"] for one in view["attempts"]]
    return TaskSeen(
        task_id,
        view,
        tuple(api.records(task_id)),
        {number: tuple(api.records(task_id, number)) for number in numbers},
        tuple(_artifact(api, task_id, one) for one in api.get(f"/tasks/{task_id}/artifacts")["artifacts"]),
    )


def _artifact(api: FleetApi, task_id: str, listed: Json) -> ArtifactSeen:
    got = api.request("GET", f"/tasks/{task_id}/artifacts/{listed['path']}")
    received = got.content if got.status_code == 200 else b""
    return ArtifactSeen(
        listed["path"],
        listed["size_bytes"],
        listed["checksum"],
        len(received),
        hashlib.sha256(received).hexdigest() if got.status_code == 200 else f"HTTP {got.status_code}",
        got.headers.get("X-Checksum-SHA256", "none"),
    )
