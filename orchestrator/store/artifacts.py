"""Which artifacts a task has; the bytes are in `orchestrator.artifacts`."""

from __future__ import annotations

import sqlalchemy as sa

from orchestrator.models import Artifact
from orchestrator.store import rows
from orchestrator.store.tables import artifacts


def replace_all(tx: sa.Connection, task_id: str, attempt: int, found: list[Artifact]) -> None:
    """Store the artifacts of an attempt. A repeated collection (after a crash) replaces the first one's."""
    delete_of(tx, task_id, attempt)
    if found:
        names = artifacts.c.keys()
        tx.execute(artifacts.insert(), [{name: getattr(one, name) for name in names} for one in found])


def of_task(tx: sa.Connection, task_id: str, attempt: int) -> list[Artifact]:
    query = sa.select(artifacts).where(artifacts.c.task_id == task_id, artifacts.c.attempt == attempt)
    return [rows.artifact(row) for row in tx.execute(query.order_by(artifacts.c.path)).mappings()]


def delete_of(tx: sa.Connection, task_id: str, attempt: int | None = None) -> None:
    where = [artifacts.c.task_id == task_id]
    if attempt is not None:
        where.append(artifacts.c.attempt == attempt)
    tx.execute(artifacts.delete().where(*where))
