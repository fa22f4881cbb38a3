"""Turns what the journal tells into deliveries: each record once for each webhook that hears of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

import sqlalchemy as sa

from orchestrator import journal
from orchestrator.journal import Place
from orchestrator.models import NewDelivery, Record, Task, Webhook
from orchestrator.store import deliveries, tasks, webhooks
from orchestrator.store.database import Database
from orchestrator.webhooks.events import KINDS, Event, body_of, event_id, events_of, hears

log = logging.getLogger(__name__)

PAGE = 100
"""Records that are told in one transaction."""
KEEP_PLACE_AFTER = timedelta(minutes=1)
"""How often a place is stored up to which there was nothing to tell: it saves the next process looking there."""


class Teller:
    """Goes through the journal with the installation's cursor. For one thread, in one process at a time.

    When two do it all the same, each record is still told once: deliveries are stored together with the step of the
    cursor, and only the first makes that step.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._place = Place()
        self._kept_at: datetime | None = None

    def tell(self, at: datetime) -> bool | None:
        """Store what is to be delivered from `at` on; true when more may be there at once. Raises `StoreUnavailable`.

        None when there is no webhook: then nothing of the journal is read, and there are no deliveries either.
        """
        with self._database.read() as tx:
            stored = webhooks.told(tx)
            if stored is None:
                return None
            place = max(stored, self._place)
            newest = journal.newest(tx)  # first: what appears from now on lies behind it
            if newest <= place:
                return False
            found, reached = journal.all_after(tx, place, kinds=KINDS, limit=PAGE)
            new = _deliveries(tx, found)
        if len(found) < PAGE:
            reached = max(reached, newest)
        if new or self._kept_at is None or at - self._kept_at >= KEEP_PLACE_AFTER:
            with self._database.write() as tx:
                if not webhooks.move_told(tx, stored, reached):
                    return True
                deliveries.add(tx, new, at)
            self._kept_at = at
        self._place = reached
        return len(found) == PAGE


def _deliveries(tx: sa.Connection, records: Sequence[Record]) -> list[NewDelivery]:
    ids = {record.task_id for record in records}
    listening = webhooks.listening(tx, ids) if ids else []
    if not listening:
        return []
    facts, seen = tasks.facts_of(tx, ids), dict[str, Task | None]()
    new: list[NewDelivery] = []
    for record in records:
        of = facts.get(record.task_id)
        if of is None:  # retention was faster
            continue
        with _skipped_if_unreadable(record):
            heard = [(one, event) for event in events_of(record) for one in listening if hears(one, record, event, of)]
            if heard and of.id not in seen:
                seen[of.id] = tasks.get(tx, of.id)
            new += _written(record, heard, seen.get(of.id))
    return new


def _written(record: Record, heard: Sequence[tuple[Webhook, Event]], task: Task | None) -> list[NewDelivery]:
    if task is None:
        return []
    new = []
    for webhook, event in heard:
        identity = event_id(webhook, record, event)
        body = body_of(identity, record, event, task)
        new.append(NewDelivery(webhook.id, identity, event.value, task.id, body))
    return new


@contextmanager
def _skipped_if_unreadable(record: Record) -> Iterator[None]:
    """A record of another version, say: it must not keep all others from being told."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError):
        log.exception("record not told to webhooks", extra={"task": record.task_id, "position": record.position})
