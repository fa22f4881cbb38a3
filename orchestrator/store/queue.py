"""The pending tasks: who may be placed, who was, and what waits too long."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from orchestrator.models import Resources, Task
from orchestrator.placement import Assignment, Room, Wanted
from orchestrator.states import ACTIVE, State
from orchestrator.store import rows
from orchestrator.store.tables import tasks


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pending task without a worker, as placement sees it. `reason` is why it waited so far."""

    wanted: Wanted
    attempt: int
    reason: str | None


def candidates(
    tx: sa.Connection, at: datetime, limit: int, rooms: Sequence[Room] = (), *, only: str | None = None
) -> list[Candidate]:
    """Pending tasks that have no worker yet and whose backoff is over, most urgent first.

    With `rooms`, only those that fit into one of them now; with `only`, that task.
    """
    names = ("id", "priority", "created_at", "cpus", "memory_bytes", "disk_bytes", "profile", "network_mode", "agent")
    query = (
        sa.select(*(tasks.c[name] for name in names), tasks.c.attempt, tasks.c.state_message)
        .where(
            tasks.c.state == State.PENDING.value,
            tasks.c.worker.is_(None),
            sa.or_(tasks.c.not_before.is_(None), tasks.c.not_before <= at),
            *([sa.or_(*map(_fits, rooms))] if rooms else []),
            *([tasks.c.id == only] if only else []),
        )
        .order_by(tasks.c.priority.desc(), tasks.c.created_at, tasks.c.id)
        .limit(limit)
    )
    return [
        Candidate(
            Wanted(row[0], row[1], row[2], Resources(row[3], row[4], row[5]), row[6], row[7], row[8]), row[9], row[10]
        )
        for row in tx.execute(query)
    ]


def _fits(room: Room) -> sa.ColumnElement[bool]:
    return sa.and_(
        tasks.c.cpus <= room.largest.cpus,
        tasks.c.memory_bytes <= room.largest.memory_bytes,
        tasks.c.disk_bytes <= room.largest.disk_bytes,
        tasks.c.profile.in_(room.profiles),
        tasks.c.network_mode.in_(room.network_modes),
        tasks.c.agent.in_(room.agents),
    )


def held_by_worker(tx: sa.Connection) -> dict[str, tuple[int, Resources]]:
    """Slots and resources each worker's placed and active tasks hold."""
    live = [state.value for state in (State.PENDING, *ACTIVE)]
    sums = (
        sa.func.count(),
        *(sa.func.sum(tasks.c[f"held_{name}"]) for name in ("cpus", "memory_bytes", "disk_bytes")),
    )
    query = (
        sa.select(tasks.c.worker, *sums)
        .where(tasks.c.worker.is_not(None), tasks.c.state.in_(live))
        .group_by(tasks.c.worker)
    )
    return {
        name: (int(slots), Resources(float(cpus or 0), int(memory or 0), int(disk or 0)))
        for name, slots, cpus, memory, disk in tx.execute(query)
    }


def assign(tx: sa.Connection, assignment: Assignment, at: datetime) -> bool:
    """Give a pending task to a worker; false when it is pending no more."""
    held = assignment.held
    done = tx.execute(
        tasks.update()
        .where(tasks.c.id == assignment.task_id, tasks.c.state == State.PENDING.value, tasks.c.worker.is_(None))
        .values(
            worker=assignment.worker,
            sent_at=at,
            held_cpus=held.cpus,
            held_memory_bytes=held.memory_bytes,
            held_disk_bytes=held.disk_bytes,
            state_message=f"placed on worker {assignment.worker}; waits to be claimed",
        )
    )
    return done.rowcount == 1


def unassign(tx: sa.Connection, worker: str) -> int:
    """Take back what was placed on a worker and not claimed; return how many."""
    done = tx.execute(
        tasks.update()
        .where(tasks.c.worker == worker, tasks.c.state == State.PENDING.value)
        .values(worker=None, sent_at=None)
    )
    return done.rowcount


def set_waiting(tx: sa.Connection, reasons: Iterable[tuple[str, str]]) -> None:
    """Keep the reason each task waits. A changed message alone is no state change."""
    for task_id, reason in reasons:
        tx.execute(
            tasks.update()
            .where(tasks.c.id == task_id, tasks.c.state == State.PENDING.value, tasks.c.state_message != reason)
            .values(state_message=reason)
        )


def has_unsent(tx: sa.Connection, before: datetime) -> bool:
    query = sa.select(tasks.c.id).where(
        tasks.c.state == State.PENDING.value, tasks.c.worker.is_not(None), tasks.c.sent_at <= before
    )
    return tx.scalar(query.limit(1)) is not None


def unsent(tx: sa.Connection, before: datetime, at: datetime) -> list[tuple[str, str, int]]:
    """Placed tasks whose message seems lost, marked as sent again: (worker, task, attempt)."""
    due = (tasks.c.state == State.PENDING.value, tasks.c.worker.is_not(None), tasks.c.sent_at <= before)
    query = sa.select(tasks.c.worker, tasks.c.id, tasks.c.attempt).where(*due)
    found = [(row[0], row[1], row[2] + 1) for row in tx.execute(query)]
    if found:
        tx.execute(tasks.update().where(tasks.c.id.in_([one[1] for one in found])).values(sent_at=at))
    return found


def overdue_in_queue(tx: sa.Connection, at: datetime) -> list[Task]:
    query = sa.select(tasks).where(tasks.c.state == State.PENDING.value, tasks.c.queue_deadline <= at)
    return [rows.task(row) for row in tx.execute(query).mappings()]


def next_backoff_over(tx: sa.Connection, at: datetime) -> bool:
    """True when a task whose retry had to wait may be placed now."""
    query = sa.select(tasks.c.id).where(
        tasks.c.state == State.PENDING.value, tasks.c.worker.is_(None), tasks.c.not_before <= at
    )
    return tx.scalar(query.limit(1)) is not None


def end_backoff(tx: sa.Connection, at: datetime) -> None:
    """Retries whose backoff is over wait for room now, like any other task."""
    tx.execute(tasks.update().where(tasks.c.not_before <= at).values(not_before=None))


def oldest_pending(tx: sa.Connection) -> datetime | None:
    query = sa.select(sa.func.min(tasks.c.created_at)).where(tasks.c.state == State.PENDING.value)
    found: datetime | None = tx.scalar(query)
    return found
