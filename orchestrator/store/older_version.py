"""What processes of the version before leave out when they write, during an upgrade, to the schema of this one."""

from __future__ import annotations

import sqlalchemy as sa

from orchestrator.store.tables import EPOCH, labels, tasks


def mend(tx: sa.Connection) -> None:
    """Fill in what lists and metrics look for. Placement mends what it needs by itself (`queue.class_unclassed`)."""
    created = sa.select(tasks.c.created_at).where(tasks.c.id == labels.c.task_id).scalar_subquery()
    tx.execute(labels.update().where(labels.c.created_at == EPOCH).values(created_at=created))
    unnamed = (tasks.c.finished_at.is_not(None), tasks.c.outcome_reason.is_(None), tasks.c.outcome.is_not(None))
    tx.execute(tasks.update().where(*unnamed).values(outcome_reason=tasks.c.outcome["reason"].as_string()))
