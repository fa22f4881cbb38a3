"""What a sandbox sent over the network and was refused, in the store: intent-level verbs."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator.contacts import Contact, EgressRule, Traffic
from orchestrator.models import Claim
from orchestrator.store.tables import attempts, workers
from orchestrator.store.tables import contacts as table


def save(tx: sa.Connection, claim: Claim, worker: str, traffic: Traffic) -> None:
    """Store an attempt's traffic as it is now, counted since its beginning: again does no harm.

    The worker's own counters rise by what is new. For a transaction that holds the attempt's claim.
    """
    of_attempt = (attempts.c.task_id == claim.task_id, attempts.c.number == claim.attempt)
    stored = tx.execute(sa.select(attempts.c.bytes_up, attempts.c.bytes_down).where(*of_attempt)).one()
    new = {"bytes_up": traffic.bytes_up, "bytes_down": traffic.bytes_down}
    if new != stored._mapping:  # noqa: SLF001 - SQLAlchemy's public name for it
        more = {name: workers.c[name] + (count - stored._mapping[name]) for name, count in new.items()}  # noqa: SLF001
        tx.execute(workers.update().where(workers.c.name == worker).values(more))
        tx.execute(attempts.update().where(*of_attempt).values(new))
    if traffic.contacts:
        _upsert(tx, claim, traffic.contacts)


def _upsert(tx: sa.Connection, claim: Claim, found: Sequence[Contact]) -> None:
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    new = insert(table)
    upsert = new.on_conflict_do_update(
        index_elements=list(table.primary_key.columns),
        set_={"count": new.excluded.count, "last_at": new.excluded.last_at},
    )
    values = [
        {
            "task_id": claim.task_id,
            "attempt": claim.attempt,
            "host": one.host,
            "port": one.port,
            "rule": one.rule.value,
            "passed": one.passed,
            "count": one.count,
            "first_at": one.first_at,
            "last_at": one.last_at,
        }
        for one in found
    ]
    tx.execute(upsert, values)


def of_task(tx: sa.Connection, task_id: str, attempt: int | None = None) -> list[Contact]:
    """What the attempts of a task (or one of them) asked for; a row for each attempt, host, port and rule."""
    query = sa.select(table).where(table.c.task_id == task_id)
    if attempt is not None:
        query = query.where(table.c.attempt == attempt)
    return [_contact(row) for row in tx.execute(query.order_by(table.c.first_at)).mappings()]


def _contact(row: sa.RowMapping) -> Contact:
    as_stored = {name: row[name] for name in ("host", "port", "passed", "count", "first_at", "last_at")}
    return Contact(rule=EgressRule(row["rule"]), **as_stored)


def bytes_of_task(tx: sa.Connection, task_id: str) -> tuple[int, int]:
    """How many bytes the attempts of a task sent up and got down."""
    up, down = (sa.func.coalesce(sa.func.sum(column), 0) for column in (attempts.c.bytes_up, attempts.c.bytes_down))
    found = tx.execute(sa.select(up, down).where(attempts.c.task_id == task_id)).one()
    return int(found[0]), int(found[1])


def bytes_of_attempt(tx: sa.Connection, claim: Claim) -> tuple[int, int]:
    """How many bytes an attempt sent up and got down, as far as it is stored."""
    of_attempt = (attempts.c.task_id == claim.task_id, attempts.c.number == claim.attempt)
    found = tx.execute(sa.select(attempts.c.bytes_up, attempts.c.bytes_down).where(*of_attempt)).first()
    return (found.bytes_up, found.bytes_down) if found else (0, 0)


def bytes_of_workers(tx: sa.Connection) -> dict[str, tuple[int, int]]:
    """How many bytes the sandboxes of each registered worker ever sent up and got down."""
    query = sa.select(workers.c.name, workers.c.bytes_up, workers.c.bytes_down).order_by(workers.c.name)
    return {row.name: (row.bytes_up, row.bytes_down) for row in tx.execute(query)}


def delete_of(tx: sa.Connection, task_id: str) -> None:
    tx.execute(table.delete().where(table.c.task_id == task_id))
