"""Tasks in the store: intent-level verbs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from orchestrator import journal
from orchestrator.journal import StaleClaim
from orchestrator.manifest import Manifest
from orchestrator.models import Cancellation, Kind, NewRecord, Task
from orchestrator.states import State
from orchestrator.store import rows
from orchestrator.store.tables import labels, tasks


class DuplicateTask(Exception):
    """A task with this id exists already; submit with another metadata.id, or without one."""

    def __init__(self, existing: Task) -> None:
        super().__init__(f"task {existing.id} exists already; choose another metadata.id, or leave it out")
        self.existing = existing


@dataclass(frozen=True, slots=True)
class Query:
    """What `GET /tasks` may ask for."""

    states: tuple[State, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    parent_id: str | None = None
    limit: int = 100
    offset: int = 0
    sort: str = "created_at"
    descending: bool = True


def insert(
    tx: sa.Connection, task_id: str, manifest: Manifest, *, at: datetime, message: str, rerun_of: str | None
) -> Task:
    """Store an accepted task as `pending`; raise `DuplicateTask`."""
    queue = manifest.lifecycle.queue_timeout_seconds
    values = {
        "id": task_id,
        "name": manifest.name,
        "labels": manifest.labels,
        "priority": manifest.priority,
        "parent_id": manifest.parent_id,
        "rerun_of": rerun_of,
        "definition": manifest.definition,
        "state": State.PENDING.value,
        "state_message": message,
        "attempt": 0,
        "fence": 0,
        "queue_deadline": at + timedelta(seconds=queue) if queue else None,
        "cpus": manifest.vm.cpus,
        "memory_bytes": manifest.vm.memory_bytes,
        "disk_bytes": manifest.vm.disk_bytes,
        "profile": manifest.vm.profile,
        "network_mode": manifest.vm.network_mode,
        "agent": manifest.agent,
        "counted_attempts": 0,
        "uncounted_losses": 0,
        "created_at": at,
        "state_changed_at": at,
        "output_bytes": 0,
        "next_seq": 2,
    }
    try:
        with tx.begin_nested():
            tx.execute(tasks.insert().values(values))
    except IntegrityError:
        existing = get(tx, task_id)
        if existing is None:
            raise
        raise DuplicateTask(existing) from None
    if manifest.labels:
        pairs = [{"task_id": task_id, "key": key, "value": value} for key, value in manifest.labels.items()]
        tx.execute(labels.insert(), pairs)
    body = {"previous_state": None, "new_state": State.PENDING.value, "state_message": message}
    journal.insert(tx, task_id, 0, 1, [NewRecord(Kind.STATE_CHANGE, at, body=body)])
    task = get(tx, task_id)
    assert task is not None, "the row was inserted in this transaction"  # noqa: S101
    return task


def get(tx: sa.Connection, task_id: str, *, for_update: bool = False) -> Task | None:
    """Return a task; `for_update` keeps others from changing it until this transaction ends (SQLite always does)."""
    query = sa.select(tasks).where(tasks.c.id == task_id)
    row = tx.execute(query.with_for_update() if for_update else query).mappings().first()
    return rows.task(row) if row else None


def find(tx: sa.Connection, query: Query) -> tuple[list[Task], int]:
    """Return one page and the number of all that match."""
    where: list[sa.ColumnElement[bool]] = []
    if query.states:
        where.append(tasks.c.state.in_([state.value for state in query.states]))
    if query.parent_id is not None:
        where.append(tasks.c.parent_id == query.parent_id)
    for key, value in query.labels:
        match = sa.select(labels.c.task_id).where(labels.c.key == key, labels.c.value == value)
        where.append(tasks.c.id.in_(match))
    column = tasks.c[query.sort]
    order = column.desc().nulls_last() if query.descending else column.asc().nulls_last()
    page = sa.select(tasks).where(*where).order_by(order, tasks.c.id).limit(query.limit).offset(query.offset)
    total = tx.scalar(sa.select(sa.func.count()).select_from(tasks).where(*where))
    return [rows.task(row) for row in tx.execute(page).mappings()], int(total or 0)


def children_of(tx: sa.Connection, parent_id: str) -> list[str]:
    return list(tx.scalars(sa.select(tasks.c.id).where(tasks.c.parent_id == parent_id)))


def store_cancellation(tx: sa.Connection, task: Task, wish: Cancellation) -> None:
    """Keep the intention; the state stays what it is. A second wish may only add force."""
    done = tx.execute(
        tasks.update()
        .where(tasks.c.id == task.id, tasks.c.state == task.state.value, tasks.c.attempt == task.attempt)
        .values(cancellation=rows.stored_cancellation(wish))
    )
    if done.rowcount != 1:
        raise StaleClaim(task.claim)


def expired(tx: sa.Connection, before: datetime, limit: int) -> list[str]:
    """Ended tasks older than retention that still hold data."""
    query = sa.select(tasks.c.id).where(tasks.c.finished_at <= before, tasks.c.purged_at.is_(None))
    return list(tx.scalars(query.limit(limit)))


def mark_purged(tx: sa.Connection, task_id: str, at: datetime) -> None:
    tx.execute(tasks.update().where(tasks.c.id == task_id).values(purged_at=at))


def count_by_state(tx: sa.Connection) -> dict[str, int]:
    query = sa.select(tasks.c.state, sa.func.count()).group_by(tasks.c.state)
    return {row[0]: int(row[1]) for row in tx.execute(query)}


def outcome_counts(tx: sa.Connection) -> dict[str, int]:
    reason = tasks.c.outcome["reason"].as_string()
    query = sa.select(reason, sa.func.count()).where(tasks.c.finished_at.is_not(None)).group_by(reason)
    return {row[0]: int(row[1]) for row in tx.execute(query)}
