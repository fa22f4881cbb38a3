"""The pending tasks: who may be placed, who was, and what waits too long."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator.models import Resources, Task
from orchestrator.placement import Assignment, Demand, Wanted
from orchestrator.states import State
from orchestrator.store import rows
from orchestrator.store.tables import tasks
from orchestrator.store.waiting import PENDING, TASK_COLUMNS, is_waiting, reason_of

DEMANDS = 256
"""Different demands looked at in one round: its cost stays flat as the queue grows."""
ROUND = 256
"""Where more demands than that wait: the most urgent tasks that every round looks at."""
_STEP = 64


@dataclass(frozen=True, slots=True)
class Line:
    """Waiting tasks of one demand, most urgent first. `reason` is why the line waited so far."""

    tasks: Iterator[Wanted]
    reason: str | None


def lines(tx: sa.Connection) -> dict[str, Line]:
    """The lines of all tasks that wait, by the key of their demand.

    With more than `DEMANDS` of them: those of the `ROUND` most urgent tasks, and others by turns.
    """
    heads = _heads(tx, "", DEMANDS)
    if len(heads) == DEMANDS:
        others = _heads(tx, secrets.token_hex(16), DEMANDS)
        heads = list(dict.fromkeys([*_most_urgent(tx), *others, *heads[: DEMANDS - len(others)]]))
    query = _HEAD.where(tasks.c.id.in_(heads))
    return {row.demand: Line(_line(tx, row.demand, _wanted(row)), row.reason) for row in tx.execute(query)}


def class_unclassed(tx: sa.Connection) -> None:
    """Give the waiting tasks that an older version stored during an upgrade the key of what they ask for."""
    query = sa.select(*_WANTED).where(tasks.c.demand == "", *is_waiting(tasks))
    for row in tx.execute(query).all():
        tx.execute(tasks.update().where(tasks.c.id == row[0]).values(demand=_wanted(row).demand.key))


def line_of(tx: sa.Connection, task_id: str) -> dict[str, Line]:
    """A waiting task alone, as the line of its demand; empty when it does not wait."""
    found = tx.execute(_HEAD.where(tasks.c.id == task_id, *is_waiting(tasks)))
    return {row.demand: Line(iter([_wanted(row)]), row.reason) for row in found}


_URGENCY = (tasks.c.priority.desc(), tasks.c.created_at, tasks.c.id)
_WANTED = tuple(
    tasks.c[name]
    for name in (
        "id", "priority", "created_at", "cpus", "memory_bytes", "disk_bytes", "profile", "network_mode", "agent"
    )
)  # fmt: skip
_HEAD = sa.select(*_WANTED, tasks.c.demand, reason_of(tasks.c.demand).label("reason"))


def _wanted(row: Any) -> Wanted:
    return Wanted(row[0], row[1], row[2], Demand(Resources(row[3], row[4], row[5]), row[6], row[7], row[8]))


def _line(tx: sa.Connection, demand: str, head: Wanted) -> Iterator[Wanted]:
    yield head
    query = sa.select(*_WANTED).where(tasks.c.demand == demand, *is_waiting(tasks)).order_by(*_URGENCY)
    seen = 1
    while found := tx.execute(query.limit(_STEP).offset(seen)).all():
        yield from map(_wanted, found)
        seen += len(found)


def _heads(tx: sa.Connection, after: str, limit: int) -> list[str]:
    """The most urgent waiting task of each demand whose key comes behind `after`, as ids.

    Steps through an index from key to key, never over the tasks that share one.
    """
    step = sa.select(sa.cast(sa.literal(after), sa.Text).label("demand"), sa.literal(0).label("number"))
    steps = step.cte("steps", recursive=True)
    other = tasks.alias("other")
    following = (
        sa.select(sa.cast(sa.func.min(other.c.demand), sa.Text))
        .where(*is_waiting(other), other.c.demand > steps.c.demand)
        .scalar_subquery()
    )
    steps = steps.union_all(
        sa.select(following, steps.c.number + 1).where(steps.c.demand.is_not(None), steps.c.number < limit)
    )
    head = (
        sa.select(tasks.c.id)
        .where(tasks.c.demand == steps.c.demand, *is_waiting(tasks))
        .order_by(*_URGENCY)
        .limit(1)
        .scalar_subquery()
    )
    return list(tx.scalars(sa.select(head).where(steps.c.number > 0, steps.c.demand.is_not(None))))


def _most_urgent(tx: sa.Connection) -> list[str]:
    """The most urgent task of each demand among the `ROUND` most urgent ones, as ids."""
    query = sa.select(tasks.c.id, tasks.c.demand).where(*is_waiting(tasks)).order_by(*_URGENCY).limit(ROUND)
    first: dict[str, str] = {}
    for task_id, demand in tx.execute(query):
        first.setdefault(demand, task_id)
    return list(first.values())


def held_by_worker(tx: sa.Connection) -> dict[str, tuple[int, Resources]]:
    """Slots and resources each worker's placed and active tasks hold."""
    held = held_sums()
    return {
        name: (slots, Resources(float(cpus), int(memory), int(disk)))
        for name, slots, cpus, memory, disk in tx.execute(sa.select(held))
    }


def held_sums() -> sa.Subquery:
    """`worker`, `slots`, `cpus`, `memory_bytes`, `disk_bytes` of what each worker's placed and active tasks hold."""
    sums = (
        sa.func.coalesce(sa.func.sum(tasks.c[f"held_{name}"]), 0).label(name)
        for name in ("cpus", "memory_bytes", "disk_bytes")
    )
    query = sa.select(tasks.c.worker, sa.func.count().label("slots"), *sums)
    return query.where(tasks.c.worker.is_not(None), tasks.c.finished_at.is_(None)).group_by(tasks.c.worker).subquery()


def assign(tx: sa.Connection, assignment: Assignment, at: datetime) -> int | None:
    """Give a pending task to a worker; return the attempt it waits for, None when it is pending no more."""
    held = assignment.held
    attempt: int | None = tx.scalar(
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
        .returning(tasks.c.attempt + 1)
    )
    return attempt


def unassign(tx: sa.Connection, worker: str) -> int:
    """Take back what was placed on a worker and not claimed; return how many."""
    done = tx.execute(
        tasks.update()
        .where(tasks.c.worker == worker, tasks.c.finished_at.is_(None), tasks.c.state == State.PENDING.value)
        .values(worker=None, sent_at=None)
    )
    return done.rowcount


def take_back(tx: sa.Connection, task_ids: Iterable[str] | None) -> list[str]:
    """Take back what was placed and not claimed, of these tasks or of all (None); return their ids."""
    due = [tasks.c.finished_at.is_(None), tasks.c.state == State.PENDING.value, tasks.c.worker.is_not(None)]
    if task_ids is not None:
        due.append(tasks.c.id.in_(list(task_ids)))
    taken = tx.scalars(tasks.update().where(*due).values(worker=None, sent_at=None).returning(tasks.c.id))
    return sorted(taken)


def has_unsent(tx: sa.Connection, before: datetime, behind: datetime) -> bool:
    """True when a placed task was rung for up to `before`; or later than `behind`, by a clock that was set back."""
    query = sa.select(tasks.c.id)
    return any(tx.scalar(query.where(*late).limit(1)) is not None for late in _unsent(before, behind))


def unsent(tx: sa.Connection, before: datetime, behind: datetime, at: datetime) -> list[tuple[str, str, int]]:
    """Placed tasks whose message seems lost (see `has_unsent`), marked as sent at `at`: (worker, task, attempt)."""
    query = sa.select(tasks.c.worker, tasks.c.id, tasks.c.attempt)
    rows_found = [row for late in _unsent(before, behind) for row in tx.execute(query.where(*late))]
    found = [(row[0], row[1], row[2] + 1) for row in rows_found]
    if found:
        tx.execute(tasks.update().where(tasks.c.id.in_([one[1] for one in found])).values(sent_at=at))
    return found


def _unsent(before: datetime, behind: datetime) -> list[tuple[sa.ColumnElement[bool], ...]]:
    """Two ranges of one index; an `or` of them would not use it."""
    placed = (tasks.c.state == PENDING, tasks.c.worker.is_not(None))
    return [(*placed, tasks.c.sent_at <= before), (*placed, tasks.c.sent_at > behind)]


def overdue_in_queue(tx: sa.Connection, at: datetime) -> list[Task]:
    query = sa.select(*TASK_COLUMNS).where(tasks.c.state == PENDING, tasks.c.queue_deadline <= at)
    return [rows.task(row) for row in tx.execute(query).mappings()]


def next_backoff_over(tx: sa.Connection, at: datetime) -> bool:
    """True when a task whose retry had to wait may be placed now."""
    query = sa.select(tasks.c.id).where(tasks.c.state == PENDING, tasks.c.worker.is_(None), tasks.c.not_before <= at)
    return tx.scalar(query.limit(1)) is not None


def end_backoff(tx: sa.Connection, at: datetime) -> None:
    """Retries whose backoff is over wait for room now, like any other task."""
    tx.execute(tasks.update().where(tasks.c.not_before <= at).values(not_before=None))


def oldest_pending(tx: sa.Connection) -> datetime | None:
    query = sa.select(sa.func.min(tasks.c.created_at)).where(tasks.c.state == PENDING)
    found: datetime | None = tx.scalar(query)
    return found
