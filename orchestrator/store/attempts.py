"""Attempts in the store: intent-level verbs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator.journal import StaleClaim
from orchestrator.models import Attempt, Claim, Task
from orchestrator.outcomes import Outcome
from orchestrator.states import ACTIVE, State
from orchestrator.store import rows
from orchestrator.store.tables import attempts as table
from orchestrator.store.tables import tasks


def insert(tx: sa.Connection, claim: Claim, worker: str, at: datetime) -> None:
    tx.execute(
        table.insert().values(
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


def of_task(tx: sa.Connection, task_id: str) -> list[Attempt]:
    query = sa.select(table).where(table.c.task_id == task_id).order_by(table.c.number)
    return [rows.attempt(row) for row in tx.execute(query).mappings()]


def get(tx: sa.Connection, task_id: str, number: int) -> Attempt | None:
    query = sa.select(table).where(table.c.task_id == task_id, table.c.number == number)
    row = tx.execute(query).mappings().first()
    return rows.attempt(row) if row else None


def session_of(
    tx: sa.Connection, task_id: str, *, made_until: datetime | None = None
) -> tuple[Attempt, dict[str, Any]] | None:
    """The newest attempt of a task whose agent's session is stored, and that session (`Attempt.session`).

    `made_until`: when the task was made that names this one. A younger one has its id again after retention, and may
    be somebody else's: there is no session of it.
    """
    query = sa.select(table).where(table.c.task_id == task_id, table.c.session.is_not(None))
    if made_until is not None:
        query = query.where(sa.exists().where(tasks.c.id == table.c.task_id, tasks.c.created_at <= made_until))
    row = tx.execute(query.order_by(table.c.number.desc()).limit(1)).mappings().first()
    return (rows.attempt(row), row["session"]) if row else None


def forget_sessions(tx: sa.Connection, task_id: str) -> None:
    """No session of the task is stored any more."""
    tx.execute(table.update().where(table.c.task_id == task_id).values(session=None))


def forget_words(tx: sa.Connection, task_id: str) -> None:
    """Of what is known of the task's agents, keep what was counted and nothing that they said."""
    of_agents = (table.c.task_id == task_id, table.c.agent.is_not(None))
    for number, agent in tx.execute(sa.select(table.c.number, table.c.agent).where(*of_agents)).all():
        counted: dict[str, Any] = {name: agent.get(name) for name in _COUNTED}
        counted["result"] = {"is_error": agent["result"].get("is_error")} if agent.get("result") else None
        tx.execute(table.update().where(*of_agents, table.c.number == number).values(agent=counted))


_COUNTED = ("session_id", "version", "turns", "tool_calls", "cost_usd", "models")


def note(tx: sa.Connection, claim: Claim, **columns: Any) -> None:
    """Store facts about a live attempt (image, sandbox, verdict, …); raise `StaleClaim` when it is not live."""
    owner = (
        sa.select(tasks.c.id)
        .where(tasks.c.id == claim.task_id, tasks.c.attempt == claim.attempt, tasks.c.fence == claim.fence)
        .exists()
    )
    done = tx.execute(
        table.update()
        .where(table.c.task_id == claim.task_id, table.c.number == claim.attempt)
        .where(table.c.fence == claim.fence, owner)
        .values(columns)
    )
    if done.rowcount != 1:
        raise StaleClaim(claim)


def finish(tx: sa.Connection, claim: Claim, state: State, outcome: Outcome, at: datetime, *, preserved: bool) -> None:
    """Store how an attempt ended. One that has ended keeps its ending: a cancelled wait for a retry changes nothing."""
    tx.execute(
        table.update()
        .where(table.c.task_id == claim.task_id, table.c.number == claim.attempt)
        .where(table.c.finished_at.is_(None))
        .values(state=state.value, outcome=outcome.to_dict(), finished_at=at, preserved=preserved)
    )


def never_ran(tx: sa.Connection, claim: Claim) -> None:
    """The command of an attempt did not begin, whatever was announced."""
    where = (table.c.task_id == claim.task_id, table.c.number == claim.attempt)
    tx.execute(table.update().where(*where).values(running_at=None, running_clock=None))


def live_on(tx: sa.Connection, worker: str, *, for_update: bool = False) -> list[tuple[Task, Attempt]]:
    """What a worker owns: active tasks with their present attempt.

    `for_update` waits for whatever still writes about them, and keeps others from it until this transaction ends.
    """
    active = [state.value for state in ACTIVE]
    held = (tasks.c.worker == worker, tasks.c.finished_at.is_(None))  # which an index finds
    query = sa.select(tasks).where(*held, tasks.c.state.in_(active))
    if for_update:
        query = query.with_for_update()
    found = [rows.task(row) for row in tx.execute(query).mappings()]
    pairs = [(task, get(tx, task.id, task.attempt)) for task in found]
    return [(task, attempt) for task, attempt in pairs if attempt is not None]


def owned_by_worker(tx: sa.Connection) -> dict[str, list[tuple[str, str | None]]]:
    """Id and owner of the tasks each worker has; one that has nothing is not in it."""
    active = tasks.c.state.in_([state.value for state in ACTIVE])
    query = sa.select(tasks.c.worker, tasks.c.id, tasks.c.owner).where(active)
    owned: dict[str, list[tuple[str, str | None]]] = {}
    held = (tasks.c.worker.is_not(None), tasks.c.finished_at.is_(None))  # which an index finds
    for worker, task_id, owner in tx.execute(query.where(*held).order_by(tasks.c.id)):
        owned.setdefault(worker, []).append((task_id, owner))
    return owned


def mark_uncollected(tx: sa.Connection, claim: Claim) -> None:
    """The attempt's worker may still hold its log's tail and its artifacts."""
    where = (table.c.task_id == claim.task_id, table.c.number == claim.attempt)
    tx.execute(table.update().where(*where).values(uncollected=True))


def mark_collected(tx: sa.Connection, claim: Claim) -> None:
    """Nothing of the attempt is left on its worker."""
    where = (table.c.task_id == claim.task_id, table.c.number == claim.attempt)
    tx.execute(table.update().where(*where).values(uncollected=False))


def uncollected_on(tx: sa.Connection, worker: str) -> list[tuple[Task, Attempt]]:
    """Attempts that ended and left something on a worker that is not stored yet, with their tasks."""
    query = sa.select(table).where(table.c.worker == worker, table.c.uncollected)
    found = [rows.attempt(row) for row in tx.execute(query).mappings()]
    pairs = [(tx.execute(sa.select(tasks).where(tasks.c.id == one.task_id)).mappings().one(), one) for one in found]
    return [(rows.task(task), one) for task, one in pairs]


def preserved_due(tx: sa.Connection, worker: str, at: datetime) -> list[Attempt]:
    """Preserved attempts on a worker that are due for destruction."""
    query = (
        sa.select(table)
        .join(tasks, tasks.c.id == table.c.task_id)
        .where(table.c.worker == worker, table.c.preserved, tasks.c.preserve_until <= at)
    )
    return [rows.attempt(row) for row in tx.execute(query).mappings()]


def preserved_rows(tx: sa.Connection, worker: str) -> list[Attempt]:
    """The preserved attempts on a worker, the oldest first."""
    query = sa.select(table).where(table.c.worker == worker, table.c.preserved)
    return [rows.attempt(row) for row in tx.execute(query.order_by(table.c.finished_at)).mappings()]


def preserved_on(tx: sa.Connection, worker: str) -> set[Claim]:
    """The preserved attempts on a worker."""
    query = sa.select(table.c.task_id, table.c.number, table.c.fence)
    found = tx.execute(query.where(table.c.worker == worker, table.c.preserved))
    return {Claim(row[0], row[1], row[2]) for row in found}


def release_preserved(tx: sa.Connection, task_id: str) -> None:
    """The preserved sandbox is gone; the state stays (contract §1, `preserve_for`)."""
    tx.execute(tasks.update().where(tasks.c.id == task_id).values(preserve_until=None))
    tx.execute(table.update().where(table.c.task_id == task_id).values(preserved=False))
