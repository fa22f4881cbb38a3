"""Tasks in the store: intent-level verbs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from orchestrator import journal
from orchestrator.journal import StaleClaim
from orchestrator.manifest import Manifest
from orchestrator.models import Cancellation, Claim, Kind, ListedTask, NewRecord, Resumption, Task, TaskFacts
from orchestrator.placement import demand_of
from orchestrator.states import TERMINAL, State
from orchestrator.store import rows
from orchestrator.store.matching import Matching, Query, belongs_to
from orchestrator.store.tables import labels, log_segments, records, tasks
from orchestrator.store.waiting import LISTED_COLUMNS, TASK_COLUMNS


class DuplicateTask(Exception):
    """A task with this id exists already; submit with another metadata.id, or without one."""

    def __init__(self, existing: Task) -> None:
        super().__init__(f"task {existing.id} exists already; choose another metadata.id, or leave it out")
        self.existing = existing


class TaskIdTaken(Exception):
    """The id belongs to a task that is none of the caller's business; submit with another, or without one."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"the id {task_id} is taken; choose another metadata.id, or leave it out")


def insert(
    tx: sa.Connection,
    task_id: str,
    manifest: Manifest,
    *,
    at: datetime,
    message: str,
    rerun_of: str | None,
    owner: str | None = None,
    resumed: Resumption | None = None,
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
        "demand": demand_of(manifest).key,
        "counted_attempts": 0,
        "uncounted_losses": 0,
        "created_at": at,
        "state_changed_at": at,
        "output_bytes": 0,
        "next_seq": 2,
        "owner": owner,
        "resumed_from": resumed.task_id if resumed else None,
        "resumed_cost_usd": resumed.cost_usd if resumed else None,
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
        given = {"task_id": task_id, "created_at": at}
        tx.execute(labels.insert(), [{**given, "key": key, "value": value} for key, value in manifest.labels.items()])
    body = {"previous_state": None, "new_state": State.PENDING.value, "state_message": message}
    journal.insert(tx, task_id, 0, journal.FIRST_PLACES, [NewRecord(Kind.STATE_CHANGE, at, body=body)])
    task = get(tx, task_id)
    assert task is not None, "the row was inserted in this transaction"  # noqa: S101
    return task


def get(tx: sa.Connection, task_id: str, *, for_update: bool = False) -> Task | None:
    """Return a task; `for_update` keeps others from changing it until this transaction ends (SQLite always does)."""
    query = sa.select(*TASK_COLUMNS).where(tasks.c.id == task_id)
    row = tx.execute(query.with_for_update() if for_update else query).mappings().first()
    return rows.task(row) if row else None


def look(tx: sa.Connection, task_id: str) -> ListedTask | None:
    """Return a task without what is large in it: for who asks again and again, or keeps it for long."""
    row = tx.execute(sa.select(*LISTED_COLUMNS).where(tasks.c.id == task_id)).mappings().first()
    return rows.listed_task(row) if row else None


def find(tx: sa.Connection, query: Query) -> tuple[list[ListedTask], int]:
    """Return one page and the number of all that match."""
    matching = Matching(tx, query)
    ids = matching.page(tx)
    found = tx.execute(sa.select(*LISTED_COLUMNS).where(tasks.c.id.in_(ids))).mappings()
    by_id = {row["id"]: rows.listed_task(row) for row in found}
    return [by_id[one] for one in ids], matching.count(tx)


def facts_of(tx: sa.Connection, task_ids: Iterable[str]) -> dict[str, TaskFacts]:
    """What never changes of these tasks; one that is gone is left out."""
    columns = [tasks.c[one.name] for one in fields(TaskFacts)]
    found = tx.execute(sa.select(*columns).where(tasks.c.id.in_(list(task_ids)))).mappings()
    return {row["id"]: TaskFacts(**row) for row in found}


def living(
    tx: sa.Connection, behind: tuple[datetime, str] | None, *, task_id: str | None, owner: str | None, limit: int
) -> list[tuple[ListedTask, int]]:
    """Tasks that have not ended, oldest first, each with its newest sequence number. `behind`: the last one before."""
    query = sa.select(*LISTED_COLUMNS, tasks.c.next_seq).where(*belongs_to(owner))
    if task_id is not None:
        query = query.where(tasks.c.id == task_id)
    if behind is not None:
        created_at = sa.literal(behind[0], tasks.c.created_at.type)
        query = query.where(sa.tuple_(tasks.c.created_at, tasks.c.id) > sa.tuple_(created_at, sa.literal(behind[1])))
    query = query.order_by(tasks.c.created_at, tasks.c.id).limit(limit)
    found = [
        (rows.listed_task({name: row[name] for name in rows.LISTED}), int(row["next_seq"]) - 1)
        for state in State  # each has its own stretch of an index; in creation's few live among all that ended
        if state not in TERMINAL
        for row in tx.execute(query.where(tasks.c.state == state.value)).mappings()
    ]
    return sorted(found, key=lambda one: (one[0].created_at, one[0].id))[:limit]


def lost_its_log(tx: sa.Connection, task: Task) -> bool:
    """True when what an ended task has printed is neither in the store nor archived: its retention is over."""
    if not task.is_terminal or not task.output_bytes:
        return False
    of_task = sa.select(records.c.position).where(records.c.task_id == task.id, records.c.kind == Kind.OUTPUT.value)
    archived = sa.select(log_segments.c.key).where(log_segments.c.task_id == task.id)
    return tx.scalar(sa.select(~of_task.exists() & ~archived.exists())) is True


def exists(tx: sa.Connection, task_id: str, *, owner: str | None) -> bool:
    """True when there is such a task for who may touch `owner`'s tasks (None: everybody's)."""
    return tx.scalar(sa.select(tasks.c.id).where(tasks.c.id == task_id, *belongs_to(owner))) is not None


def children_of(tx: sa.Connection, parent_id: str, *, owner: str | None = None) -> list[str]:
    """The ids of a task's children; `owner`: of those alone that are this owner's."""
    return list(tx.scalars(sa.select(tasks.c.id).where(tasks.c.parent_id == parent_id, *belongs_to(owner))))


def store_cancellation(tx: sa.Connection, task: Task, wish: Cancellation) -> None:
    """Keep the intention; the state stays what it is. A second wish may only add force."""
    done = tx.execute(
        tasks.update()
        .where(tasks.c.id == task.id, tasks.c.state == task.state.value, tasks.c.attempt == task.attempt)
        .values(cancellation=rows.stored_cancellation(wish))
    )
    if done.rowcount != 1:
        raise StaleClaim(task.claim)


def say_of_active(tx: sa.Connection, worker: str, message: str) -> None:
    """Change the message of what a worker has begun. That alone is no state change."""
    active = (tasks.c.worker == worker, tasks.c.finished_at.is_(None), tasks.c.state != State.PENDING.value)
    tx.execute(tasks.update().where(*active).values(state_message=message))


def say_of(tx: sa.Connection, claim: Claim, message: str) -> None:
    """Change the message of one attempt's task; that alone is no state change. Raises `StaleClaim`."""
    owner = (tasks.c.id == claim.task_id, tasks.c.attempt == claim.attempt, tasks.c.fence == claim.fence)
    live = tasks.c.finished_at.is_(None)
    if tx.execute(tasks.update().where(*owner, live).values(state_message=message)).rowcount != 1:
        raise StaleClaim(claim)


def mark_purged(tx: sa.Connection, task_id: str, at: datetime) -> None:
    tx.execute(tasks.update().where(tasks.c.id == task_id).values(purged_at=at))


def count_by_state(tx: sa.Connection) -> dict[str, int]:
    query = sa.select(tasks.c.state, sa.func.count()).group_by(tasks.c.state)
    return {row[0]: int(row[1]) for row in tx.execute(query)}


def outcome_counts(tx: sa.Connection) -> dict[str, int]:
    reason = tasks.c.outcome_reason
    query = sa.select(reason, sa.func.count()).where(tasks.c.finished_at.is_not(None)).group_by(reason)
    return {row[0]: int(row[1]) for row in tx.execute(query)}


def output_bytes(tx: sa.Connection) -> int:
    """The output of all tasks. That of the ended ones is in an index: their rows are not read."""
    total = sa.select(sa.func.coalesce(sa.func.sum(tasks.c.output_bytes), 0))
    ended = tx.scalars(total.where(tasks.c.finished_at.is_not(None)).group_by(tasks.c.outcome_reason)).all()
    living = [tx.scalar(total.where(tasks.c.state == state.value)) for state in State if state not in TERMINAL]
    return sum(map(int, [*ended, *living]))
