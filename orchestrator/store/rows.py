"""Rows into frozen records, and back."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from orchestrator import clock
from orchestrator.models import (
    Artifact,
    Attempt,
    Cancellation,
    Kind,
    ListedTask,
    Overcommit,
    Record,
    Resources,
    Task,
    Worker,
    WorkerState,
)
from orchestrator.outcomes import Outcome
from orchestrator.states import State

LISTED = tuple(one.name for one in fields(ListedTask))
"""The columns of `ListedTask`."""
_TASK_AS_STORED = (
    *(name for name in LISTED if name != "state"), "rerun_of", "definition", "fence", "counted_attempts",
    "uncounted_losses", "preserve_until", "purged_at", "applied", "next_seq", "resumed_cost_usd", "input_closed",
    "outputs",
)  # fmt: skip
_ATTEMPT_AS_STORED = (
    "task_id", "number", "fence", "worker", "claimed_at", "running_at", "finished_at", "applied", "image",
    "image_digest", "commit", "sandbox", "verdict", "spool_offset", "output_bytes", "dropped_bytes", "preserved",
    "running_clock", "uncollected", "bytes_up", "bytes_down", "agent", "model_usage", "session",
    "cpu_seconds", "memory_peak_bytes", "disk_peak_bytes",
)  # fmt: skip


def task(row: sa.RowMapping) -> Task:
    return Task(
        **{name: row[name] for name in _TASK_AS_STORED},
        state=State(row["state"]),
        requested=resources(row),
        outcome=outcome(row["outcome"]),
        cancellation=cancellation(row["cancellation"]),
    )


def listed_task(row: sa.RowMapping | dict[str, Any]) -> ListedTask:
    return ListedTask(**{**row, "state": State(row["state"])})


def attempt(row: sa.RowMapping) -> Attempt:
    return Attempt(
        **{name: row[name] for name in _ATTEMPT_AS_STORED},
        state=State(row["state"]),
        outcome=outcome(row["outcome"]),
    )


def worker(row: sa.RowMapping) -> Worker:
    return Worker(
        name=row["name"],
        state=WorkerState(row["state"]),
        slots=row["slots"],
        host=resources(row),
        overcommit=Overcommit(**row["overcommit"]),
        profiles=tuple(row["profiles"]),
        network_modes=tuple(row["network_modes"]),
        agents=tuple(row["agents"]),
        trouble=row["trouble"],
        heartbeat=row["heartbeat"],
        heartbeat_at=row["heartbeat_at"],
        registered_at=row["registered_at"],
        host_id=row["host_id"],
        version=row["version"],
        draining=row["draining"],
        drain_until=row["drain_until"],
        adopt_until=row["adopt_until"],
    )


def record(row: sa.RowMapping) -> Record:
    return Record(
        position=row["position"],
        task_id=row["task_id"],
        attempt=row["attempt"],
        first_seq=row["first_seq"],
        last_seq=row["last_seq"],
        at=row["at"],
        kind=Kind(row["kind"]),
        stream=row["stream"],
        body=row["body"],
        data=row["data"],
        transaction_id=row["transaction_id"],
    )


def artifact(row: sa.RowMapping) -> Artifact:
    return Artifact(**row)


def resources(row: sa.RowMapping) -> Resources:
    return Resources(row["cpus"], row["memory_bytes"], row["disk_bytes"])


def outcome(data: dict[str, Any] | None) -> Outcome | None:
    return Outcome.from_dict(data) if data else None


def cancellation(data: dict[str, Any] | None) -> Cancellation | None:
    if not data:
        return None
    return Cancellation(
        requested_at=clock.parse(data["requested_at"]),
        requested_by=data["requested_by"],
        reason=data["reason"],
        force=data["force"],
        previous_state=State(data["previous_state"]),
    )


def stored_cancellation(one: Cancellation) -> dict[str, Any]:
    return {
        "requested_at": clock.text(one.requested_at),
        "requested_by": one.requested_by,
        "reason": one.reason,
        "force": one.force,
        "previous_state": one.previous_state.value,
    }
