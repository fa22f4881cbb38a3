"""What an operator's retention removes of an ended task: its log, its artifacts, in the end its row."""

from __future__ import annotations

import logging
from datetime import timedelta

import sqlalchemy as sa

from orchestrator import clock, journal
from orchestrator.models import Kind, NewRecord
from orchestrator.product import Product
from orchestrator.services.purge import lock, log_prefix, session_prefix, storage_prefix
from orchestrator.store import artifacts, conversation, progress, segments
from orchestrator.store import attempts as attempt_rows
from orchestrator.store.expiry import is_held
from orchestrator.store.tables import artifacts as artifact_table
from orchestrator.store.tables import (
    attempts,
    contacts,
    idempotency_keys,
    inputs,
    labels,
    log_segments,
    questions,
    records,
    tasks,
    webhooks,
)

log = logging.getLogger(__name__)

OF_A_TASK = (
    records, log_segments, artifact_table, contacts, questions, inputs, attempts, labels, idempotency_keys, webhooks,
)  # fmt: skip
"""Tables whose rows go with their task's; deliveries go with the task's own webhooks. `parent_id`, `rerun_of` and
`resumed_from` of others are words: they stay."""


def expire_log(product: Product, task_id: str, age: timedelta) -> None:
    """Remove the log of an ended task with what was asked, sent and put out, and say so in its place.

    Its state changes stay. Idempotent. Raises `StoreUnavailable`, `ArtifactStoreUnavailable`.
    """
    product.artifacts.delete_prefix(log_prefix(task_id))  # first: one that broke off is seen, and repeated
    with product.database.write() as tx:
        if not lock(tx, task_id):
            return
        removed = tx.execute(sa.select(tasks.c.output_bytes, tasks.c.attempt).where(tasks.c.id == task_id)).one()
        journal.delete_of(tx, task_id)
        segments.delete_of(tx, task_id)
        conversation.delete_of(tx, task_id)
        progress.forget_words(tx, task_id)
        message = (
            f"the log of this task ({removed.output_bytes} bytes of output) was removed: it ended more than "
            f"SANDBOX_LOG_RETENTION_DAYS={age.days} days ago"
        )
        body = {"dropped_bytes": removed.output_bytes, "message": message}
        new = [NewRecord(Kind.GAP, clock.now(), body=body)]
        places = journal.take_places(tx, new, tasks.c.id == task_id, archived_at=clock.now())
        assert places is not None, "the row was locked in this transaction"  # noqa: S101
        journal.insert(tx, task_id, removed.attempt, places, new)
    log.info("log removed: its retention is over", extra={"task": task_id})


def expire_artifacts(product: Product, task_id: str) -> None:
    """Remove the artifacts of an ended task, and what was kept to go on from. Idempotent.

    Raises `StoreUnavailable`, `ArtifactStoreUnavailable`.
    """
    with product.database.read() as tx:
        numbers = tx.scalars(sa.select(attempts.c.number).where(attempts.c.task_id == task_id)).all()
    for number in numbers:
        product.artifacts.delete_prefix(f"{storage_prefix(task_id)}/{number}")
    product.artifacts.delete_prefix(session_prefix(task_id))
    with product.database.write() as tx:
        artifacts.delete_of(tx, task_id)
        attempt_rows.forget_sessions(tx, task_id)
    log.info("artifacts removed: their retention is over", extra={"task": task_id})


def forget(product: Product, task_id: str) -> None:
    """Remove an ended task with all it left, its row included; keep it while a host holds its preserved sandbox.

    Idempotent. Raises `StoreUnavailable`, `ArtifactStoreUnavailable`.
    """
    product.artifacts.delete_prefix(storage_prefix(task_id))  # first: as long as there is a row, it is tried again
    with product.database.write() as tx:
        if not lock(tx, task_id) or is_held(tx, task_id):
            return
        journal.raise_horizon(tx, records.c.task_id == task_id)
        for table in OF_A_TASK:
            tx.execute(table.delete().where(table.c.task_id == task_id))
        tx.execute(tasks.delete().where(tasks.c.id == task_id))
    log.info("task removed: its retention is over", extra={"task": task_id})
