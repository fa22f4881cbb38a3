"""Tasks and attempts in the store: intent-level verbs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from orchestrator import journal
from orchestrator.journal import StaleClaim
from orchestrator.manifest import Manifest
from orchestrator.models import Attempt, Cancellation, Claim, Kind, NewRecord, Resources, Task
from orchestrator.outcomes import Outcome
from orchestrator.placement import Assignment, Room, Wanted
from orchestrator.states import ACTIVE, State
from orchestrator.store import rows
from orchestrator.store.tables import attempts, labels, tasks


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


def store_cancellation(tx: sa.Connection, task: Task, wish: Cancellation) -> None:
    """Keep the intention; the state stays what it is. A second wish may only add force."""
    done = tx.execute(
        tasks.update()
        .where(tasks.c.id == task.id, tasks.c.state == task.state.value, tasks.c.attempt == task.attempt)
        .values(cancellation=rows.stored_cancellation(wish))
    )
    if done.rowcount != 1:
        raise StaleClaim(task.claim)


def insert_attempt(tx: sa.Connection, claim: Claim, worker: str, at: datetime) -> None:
    tx.execute(
        attempts.insert().values(
            task_id=claim.task_id,
            number=claim.attempt,
            fence=claim.fence,
            worker=worker,
            state=State.STAGING.value,
            claimed_at=at,
            output_bytes=0,
            dropped_bytes=0,
            preserved=False,
        )
    )


def attempts_of(tx: sa.Connection, task_id: str) -> list[Attempt]:
    query = sa.select(attempts).where(attempts.c.task_id == task_id).order_by(attempts.c.number)
    return [rows.attempt(row) for row in tx.execute(query).mappings()]


def get_attempt(tx: sa.Connection, task_id: str, number: int) -> Attempt | None:
    query = sa.select(attempts).where(attempts.c.task_id == task_id, attempts.c.number == number)
    row = tx.execute(query).mappings().first()
    return rows.attempt(row) if row else None


def note_attempt(tx: sa.Connection, claim: Claim, **columns: Any) -> None:
    """Store facts about a live attempt (image, sandbox, verdict, …); raise `StaleClaim` when it is not live."""
    owner = (
        sa.select(tasks.c.id)
        .where(tasks.c.id == claim.task_id, tasks.c.attempt == claim.attempt, tasks.c.fence == claim.fence)
        .exists()
    )
    done = tx.execute(
        attempts.update()
        .where(attempts.c.task_id == claim.task_id, attempts.c.number == claim.attempt)
        .where(attempts.c.fence == claim.fence, owner)
        .values(columns)
    )
    if done.rowcount != 1:
        raise StaleClaim(claim)


def finish_attempt(
    tx: sa.Connection, claim: Claim, state: State, outcome: Outcome, at: datetime, *, preserved: bool
) -> None:
    """Store how an attempt ended. One that has ended keeps its ending: a cancelled wait for a retry changes nothing."""
    tx.execute(
        attempts.update()
        .where(attempts.c.task_id == claim.task_id, attempts.c.number == claim.attempt)
        .where(attempts.c.finished_at.is_(None))
        .values(state=state.value, outcome=outcome.to_dict(), finished_at=at, preserved=preserved)
    )


def live_attempts(tx: sa.Connection, worker: str) -> list[tuple[Task, Attempt]]:
    """What a worker owns: active tasks with their present attempt."""
    active = [state.value for state in ACTIVE]
    query = sa.select(tasks).where(tasks.c.worker == worker, tasks.c.state.in_(active))
    found = [rows.task(row) for row in tx.execute(query).mappings()]
    pairs = [(task, get_attempt(tx, task.id, task.attempt)) for task in found]
    return [(task, attempt) for task, attempt in pairs if attempt is not None]


def placed_on(tx: sa.Connection, worker: str) -> list[tuple[str, int]]:
    """Tasks that wait for this worker's claim: (task, attempt to claim)."""
    query = sa.select(tasks.c.id, tasks.c.attempt).where(tasks.c.worker == worker, tasks.c.state == State.PENDING.value)
    return [(row[0], row[1] + 1) for row in tx.execute(query)]


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


def preserved_due(tx: sa.Connection, worker: str, at: datetime) -> list[Attempt]:
    """Preserved attempts on a worker that are due for destruction."""
    query = (
        sa.select(attempts)
        .join(tasks, tasks.c.id == attempts.c.task_id)
        .where(attempts.c.worker == worker, attempts.c.preserved, tasks.c.preserve_until <= at)
    )
    return [rows.attempt(row) for row in tx.execute(query).mappings()]


def preserved_on(tx: sa.Connection, worker: str) -> set[Claim]:
    """The preserved attempts on a worker."""
    query = sa.select(attempts.c.task_id, attempts.c.number, attempts.c.fence)
    found = tx.execute(query.where(attempts.c.worker == worker, attempts.c.preserved))
    return {Claim(row[0], row[1], row[2]) for row in found}


def expired(tx: sa.Connection, before: datetime, limit: int) -> list[str]:
    """Ended tasks older than retention that still hold data."""
    query = sa.select(tasks.c.id).where(tasks.c.finished_at <= before, tasks.c.purged_at.is_(None))
    return list(tx.scalars(query.limit(limit)))


def release_preserved(tx: sa.Connection, task_id: str) -> None:
    """The preserved sandbox is gone; the state stays (contract §1, `preserve_for`)."""
    tx.execute(tasks.update().where(tasks.c.id == task_id).values(preserve_until=None))
    tx.execute(attempts.update().where(attempts.c.task_id == task_id).values(preserved=False))


def mark_purged(tx: sa.Connection, task_id: str, at: datetime) -> None:
    tx.execute(tasks.update().where(tasks.c.id == task_id).values(purged_at=at))


def count_by_state(tx: sa.Connection) -> dict[str, int]:
    query = sa.select(tasks.c.state, sa.func.count()).group_by(tasks.c.state)
    return {row[0]: int(row[1]) for row in tx.execute(query)}


def oldest_pending(tx: sa.Connection) -> datetime | None:
    query = sa.select(sa.func.min(tasks.c.created_at)).where(tasks.c.state == State.PENDING.value)
    found: datetime | None = tx.scalar(query)
    return found


def outcome_counts(tx: sa.Connection) -> dict[str, int]:
    reason = tasks.c.outcome["reason"].as_string()
    query = sa.select(reason, sa.func.count()).where(tasks.c.finished_at.is_not(None)).group_by(reason)
    return {row[0]: int(row[1]) for row in tx.execute(query)}
