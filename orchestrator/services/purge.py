"""Remove what an ended task left: log, artifacts, preserved sandbox. Its row stays."""

from __future__ import annotations

import logging

from orchestrator import clock, journal
from orchestrator.models import Task
from orchestrator.product import Product
from orchestrator.services.cancel import TaskNotFound
from orchestrator.store import artifacts, tasks
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
        journal.delete_of(tx, task_id)
        artifacts.delete_of(tx, task_id)
        tasks.mark_purged(tx, task_id, at)
        if task.preserve_until:
            tx.execute(table.update().where(table.c.id == task_id).values(preserve_until=at))
    log.info("task purged", extra={"task": task_id})


def storage_prefix(task_id: str) -> str:
    """Where the artifacts of a task lie. Ids match `[A-Za-z0-9][A-Za-z0-9._-]*`: safe as one path segment."""
    return f"tasks/{task_id}"
