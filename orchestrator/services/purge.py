"""Remove what an ended task left: log, artifacts, preserved sandbox. Its row stays."""

from __future__ import annotations

import logging

import sqlalchemy as sa

from orchestrator import clock, journal
from orchestrator.models import Task
from orchestrator.product import Product
from orchestrator.services.cancel import TaskNotFound
from orchestrator.store import artifacts, attempts, contacts, conversation, progress, segments, tasks
from orchestrator.store.tables import tasks as table

log = logging.getLogger(__name__)


class NotTerminal(Exception):
    """Only a task that has ended can be purged; cancel it first."""

    def __init__(self, task: Task) -> None:
        super().__init__(f"task {task.id} is {task.state}: only ended tasks can be purged; cancel it first")
        self.task = task


def purge(product: Product, task_id: str) -> None:
    """Remove the data; a preserved sandbox is destroyed by its worker at its next heartbeat. Idempotent.

    Raises `TaskNotFound`, `NotTerminal`, `StoreUnavailable`.
    """
    at = clock.now()
    with product.database.read() as tx:
        task = tasks.get(tx, task_id)
    if task is None:
        raise TaskNotFound(task_id)
    if not task.is_terminal:  # and a task never leaves a terminal state
        raise NotTerminal(task)
    product.artifacts.delete_prefix(storage_prefix(task_id))  # first: a purge that broke off is seen, and repeated
    with product.database.write() as tx:
        if not lock(tx, task_id):  # its time was over, and its row is gone
            return
        journal.delete_of(tx, task_id)
        segments.delete_of(tx, task_id)
        artifacts.delete_of(tx, task_id)
        contacts.delete_of(tx, task_id)
        conversation.delete_of(tx, task_id)
        progress.forget_words(tx, task_id)
        attempts.forget_sessions(tx, task_id)
        attempts.forget_words(tx, task_id)
        tasks.mark_purged(tx, task_id, at)
        if task.preserve_until:
            tx.execute(table.update().where(table.c.id == task_id).values(preserve_until=at))
    # Again: until it was marked, somebody may have stored a part of its log.
    product.artifacts.delete_prefix(log_prefix(task_id))
    log.info("task purged", extra={"task": task_id})


def lock(tx: sa.Connection, task_id: str) -> bool:
    """Keep others from changing a task until `tx` ends; false when it is not there.

    Who deletes records takes this lock first, as their writers do: else they could wait for each other.
    """
    return tx.scalar(sa.select(table.c.id).where(table.c.id == task_id).with_for_update()) is not None


def storage_prefix(task_id: str) -> str:
    """Where all that a task leaves lies. Ids match `[A-Za-z0-9][A-Za-z0-9._-]*`: safe as one path segment.

    Artifacts lie below the number of their attempt.
    """
    return f"tasks/{task_id}"


def log_prefix(task_id: str) -> str:
    """Where the archived log of a task lies."""
    return f"{storage_prefix(task_id)}/log"


def session_prefix(task_id: str) -> str:
    """Where the agent sessions of a task lie."""
    return f"{storage_prefix(task_id)}/session"


def session_key(task_id: str, attempt: int) -> str:
    """The key of the archive of an attempt's agent session and workspace."""
    return f"{session_prefix(task_id)}/{attempt}"
