"""What retention would do now, and doing all of it at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from orchestrator.product import Product
from orchestrator.services import by_hand
from orchestrator.services.retention import retain
from orchestrator.settings import Settings
from orchestrator.store import expiry
from orchestrator.store.expiry import Due, Span

PAGE = 1000

Find = Callable[[sa.Connection, Span, int], list[Due]]


@dataclass(frozen=True, slots=True)
class Pruned:
    """Ids of tasks by what goes: all of the task, its log, its artifacts. Who loses all is in the first alone."""

    tasks: frozenset[str]
    logs: frozenset[str]
    artifacts: frozenset[str]

    def without(self, left: Pruned) -> Pruned:
        return Pruned(self.tasks - left.tasks, self.logs - left.logs, self.artifacts - left.artifacts)


def due(product: Product, at: datetime) -> Pruned:
    """What the product's settings let go at `at`. Raises `StoreUnavailable`."""
    settings = product.settings
    with product.database.read() as tx:
        tasks = _found(tx, at, settings.retention_days, expiry.to_purge, expiry.to_forget)
        logs = _found(tx, at, settings.log_retention_days, expiry.with_log)
        artifacts = _found(tx, at, settings.artifact_retention_days, expiry.with_artifacts)
    return Pruned(tasks, logs - tasks, artifacts - tasks)


def prune(product: Product, at: datetime) -> Pruned:
    """Do a round of retention here; return what is gone. What is left over, the log says why; so does the next round.

    Raises `StoreUnavailable`, `ArtifactStoreUnavailable`.
    """
    before = due(product, at)
    with product.database.write() as tx:  # first: one that is broken off has removed something, too
        by_hand.note(tx, "store.prune", [_ages(product.settings)], at)
    retain(product, at)
    return before.without(due(product, at))


def _ages(settings: Settings) -> str:
    days = (settings.retention_days, settings.log_retention_days, settings.artifact_retention_days)
    tasks, logs, artifacts = (f"{age} days" if age else "never" for age in days)
    return f"tasks after {tasks}, logs after {logs}, artifacts after {artifacts}"


def _found(tx: sa.Connection, at: datetime, days: int, *finds: Find) -> frozenset[str]:
    """The ids of all pages; none where the setting is 0, which keeps everything."""
    found: set[str] = set()
    for find in finds if days else ():
        span = Span(at - timedelta(days=days))
        while page := find(tx, span, PAGE):
            found |= {one.task_id for one in page}
            span = span.behind(page[-1])
    return frozenset(found)
