"""Which indexes the database uses for what a function asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from orchestrator.store.database import Database

Statement = tuple[str, Any]


@contextmanager
def heard(database: Database) -> Iterator[list[Statement]]:
    """The statements that are executed meanwhile, with their parameters."""
    found: list[Statement] = []

    def hear(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        found.append((statement, parameters))

    sa.event.listen(database.engine, "before_cursor_execute", hear)
    try:
        yield found
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", hear)


def plan_of(tx: sa.Connection, statements: list[Statement]) -> str:
    """How the database would answer them, as it says itself.

    PostgreSQL reads a small table whole, whatever indexes it has: it is told that this costs much, so that what it
    says holds for a large one.
    """
    explain = "EXPLAIN QUERY PLAN " if tx.dialect.name == "sqlite" else "EXPLAIN "
    if tx.dialect.name == "postgresql":
        tx.execute(sa.text("SET LOCAL enable_seqscan = off"))
    lines = [row[-1] for text, values in statements for row in tx.exec_driver_sql(explain + text, values)]
    return "\n".join(map(str, lines))
