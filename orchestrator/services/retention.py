"""What time does to ended tasks: their output is archived, then log, artifacts and row go, as the settings say."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

import sqlalchemy as sa

from orchestrator.artifacts import ArtifactStoreUnavailable
from orchestrator.product import Product
from orchestrator.services.archive import archive_task
from orchestrator.services.cancel import TaskNotFound
from orchestrator.services.expire import expire_artifacts, expire_log, forget
from orchestrator.services.purge import purge
from orchestrator.settings import Settings
from orchestrator.store import audit, deliveries, expiry, older_version, webhooks
from orchestrator.store.database import StoreUnavailable
from orchestrator.store.expiry import Due, Span
from orchestrator.store.tables import EPOCH

log = logging.getLogger(__name__)

PAGE = 100
LONGEST_INTERVAL_SECONDS = 600.0
SHORTEST_INTERVAL_SECONDS = 1.0
DELIVERY_DAYS = 7
"""How long at most it is told what a webhook was sent."""

Find = Callable[[sa.Connection, Span, int], list[Due]]
Act = Callable[[str], object]


def interval_seconds(settings: Settings) -> float:
    """How often to look: output is archived at most half as long again after its time as the setting says."""
    asked = settings.archive_after_seconds / 2
    return min(LONGEST_INTERVAL_SECONDS, max(SHORTEST_INTERVAL_SECONDS, asked))


class Retention:
    """Does a round in a thread of its own: storage that is slow or away holds nobody up.

    It may break off anywhere and run in several processes: each step is idempotent and compares before it sets.
    """

    def __init__(self, product: Product) -> None:
        self._product = product
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._away: str | None = None
        # Logs and artifacts of tasks that ended up to here are gone: their index entries need no second look.
        self._logs_from, self._artifacts_from = EPOCH, EPOCH
        self._from_epoch_at = EPOCH

    def begin(self, at: datetime) -> None:
        """Start a round unless one is under way. `at` is the instant that ages are counted from."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._thread = threading.Thread(target=self._round, args=(at,), name="retention", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the round after the task it is at; wait a few seconds for that."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _round(self, at: datetime) -> None:
        try:
            self.round(at)
        except (StoreUnavailable, ArtifactStoreUnavailable) as error:
            if self._away != type(error).__name__:  # one line an outage, not one a second
                self._away = type(error).__name__
                log.warning("retention waits: store or artifact storage unavailable", extra={"error": str(error)})
        except Exception:
            log.exception("retention failed, trying again later")
        else:
            self._away = None

    def round(self, at: datetime) -> None:
        """Do all that is due at `at`. Raises `StoreUnavailable`, `ArtifactStoreUnavailable`; the rest waits then."""
        settings = self._product.settings
        with self._product.database.write() as tx:
            older_version.mend(tx)
        if at - self._from_epoch_at > timedelta(days=1):  # a host that returned late may have stored something since
            self._from_epoch_at, self._logs_from, self._artifacts_from = at, EPOCH, EPOCH
        self._forget_deliveries(at)
        if settings.retention_days:
            span = Span(at - timedelta(days=settings.retention_days))
            self._each(expiry.to_purge, span, partial(purge, self._product))
            self._each(expiry.to_forget, span, partial(forget, self._product))
            self._forget_acts(span.until)
        if settings.log_retention_days:
            age = timedelta(days=settings.log_retention_days)
            act = partial(expire_log, self._product, age=age)
            self._logs_from = self._each(expiry.with_log, Span(at - age, self._logs_from), act)
        if settings.artifact_retention_days:
            age = timedelta(days=settings.artifact_retention_days)
            act = partial(expire_artifacts, self._product)
            self._artifacts_from = self._each(expiry.with_artifacts, Span(at - age, self._artifacts_from), act)
        span = Span(at - timedelta(seconds=settings.archive_after_seconds))
        self._each(expiry.to_archive, span, partial(archive_task, self._product))

    def _forget_acts(self, until: datetime) -> None:
        """The audit trail is kept as long as the tasks it tells of, page by page."""
        more = True
        while more and not self._stop.is_set():
            with self._product.database.write() as tx:
                more = audit.delete_before(tx, until)

    def _forget_deliveries(self, at: datetime) -> None:
        """Those of a task's own webhooks go with the task."""
        days = min(DELIVERY_DAYS, self._product.settings.retention_days or DELIVERY_DAYS)
        with self._product.database.read() as tx:
            ids = webhooks.lasting(tx)
        for webhook_id in ids:
            while not self._stop.is_set():
                with self._product.database.read() as tx:
                    old = deliveries.before(tx, webhook_id, at - timedelta(days=days))
                if not old:
                    break
                with self._product.database.write() as tx:
                    deliveries.delete(tx, webhook_id, old)

    def _each(self, find: Find, span: Span, act: Act) -> datetime:
        """Do `act` on all that `find` gives, page by page; return the end up to which nothing is left to do."""
        beginning, failed = span.end, False
        while not self._stop.is_set():
            with self._product.database.read() as tx:
                page = find(tx, span, PAGE)
            for due in page:
                if self._stop.is_set():
                    return beginning
                failed |= not _done(act, due.task_id)
            if len(page) < PAGE:
                return beginning if failed else span.until
            span = span.behind(page[-1])
        return beginning


def retain(product: Product, at: datetime) -> None:
    """Do one round here and now. Raises `StoreUnavailable`, `ArtifactStoreUnavailable`."""
    Retention(product).round(at)


def _done(act: Act, task_id: str) -> bool:
    """One bad task must not keep all others."""
    try:
        act(task_id)
    except TaskNotFound:  # another process was faster
        return True
    except (StoreUnavailable, ArtifactStoreUnavailable):
        raise
    except Exception:
        log.exception("retention of a task failed, trying again later", extra={"task": task_id})
        return False
    return True
