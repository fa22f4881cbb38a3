"""What processes of the version before leave out when they write, during an upgrade, to the schema of this one."""

from __future__ import annotations

import sqlalchemy as sa

from orchestrator.store.tables import EPOCH, attempts, inputs, labels, questions, tasks


def mend(tx: sa.Connection) -> None:
    """Fill in what lists and metrics look for; withdraw what agents asked whose attempts they ended; remove what was
    asked and sent in tasks that they purged.

    Placement mends what it needs by itself (`queue.class_unclassed`).
    """
    created = sa.select(tasks.c.created_at).where(tasks.c.id == labels.c.task_id).scalar_subquery()
    tx.execute(labels.update().where(labels.c.created_at == EPOCH).values(created_at=created))
    unnamed = (tasks.c.finished_at.is_not(None), tasks.c.outcome_reason.is_(None), tasks.c.outcome.is_not(None))
    tx.execute(tasks.update().where(*unnamed).values(outcome_reason=tasks.c.outcome["reason"].as_string()))
    ended = sa.select(attempts.c.finished_at).where(
        attempts.c.task_id == questions.c.task_id, attempts.c.number == questions.c.attempt
    )
    still_open = (questions.c.answered_at.is_(None), questions.c.withdrawn_at.is_(None))
    of_ended = ended.where(attempts.c.finished_at.is_not(None)).exists()
    tx.execute(questions.update().where(*still_open, of_ended).values(withdrawn_at=ended.scalar_subquery()))
    for table in (questions, inputs):
        purged = sa.exists().where(tasks.c.id == table.c.task_id, tasks.c.purged_at.is_not(None))
        tx.execute(table.delete().where(purged))
