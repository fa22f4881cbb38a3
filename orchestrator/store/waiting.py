"""Tasks that wait for room, and why: one reason for all tasks of a demand, however many there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator.states import State
from orchestrator.store.rows import LISTED
from orchestrator.store.tables import tasks, waits

PENDING: sa.ColumnElement[str] = sa.literal_column(f"'{State.PENDING.value}'", sa.String)
"""A literal: a database uses a partial index only where it sees that the query asks for no more."""


def is_waiting(table: sa.FromClause) -> tuple[sa.ColumnElement[bool], ...]:
    """Pending, on no worker, not in a backoff: the words of the indexes `tasks_waiting` and `tasks_waiting_alike`."""
    return (table.c.state == PENDING, table.c.worker.is_(None), table.c.not_before.is_(None))


def reason_of(demand: sa.ColumnElement[str]) -> sa.ScalarSelect[str]:
    """Why the tasks of a demand wait, as a column; null when nobody has looked yet."""
    return sa.select(waits.c.reason).where(waits.c.demand == demand).scalar_subquery()


def set_reasons(tx: sa.Connection, reasons: Mapping[str, str]) -> None:
    """Keep why the tasks of each demand wait. Only in a transaction that took its turn to place."""
    if not reasons:
        return
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    new = insert(waits)
    upsert = new.on_conflict_do_update(index_elements=[waits.c.demand], set_={"reason": new.excluded.reason})
    tx.execute(upsert, [{"demand": demand, "reason": reason} for demand, reason in reasons.items()])


def _message() -> sa.ColumnElement[Any]:
    reason = sa.func.coalesce(reason_of(tasks.c.demand), tasks.c.state_message)
    return sa.case((sa.and_(*is_waiting(tasks)), reason), else_=tasks.c.state_message)


TASK_COLUMNS = tuple(
    _message().label("state_message") if column is tasks.c.state_message else column for column in tasks.c
)
"""The columns of a task; the message of one that waits for room is the reason of its demand."""
LISTED_COLUMNS = tuple(column for column in TASK_COLUMNS if column.name in LISTED)
