"""One thread a worker that writes what all its attempts have to say, in common transactions (design §5)."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import sqlalchemy as sa

from orchestrator import journal
from orchestrator.journal import StaleClaim
from orchestrator.models import Claim, NewRecord
from orchestrator.store.database import Database, StoreUnavailable
from workers.patience import patiently

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
MAX_BATCHES = 64

Beside = Callable[[sa.Connection], None]
"""What is to be stored in the same transaction as the records."""


class Writer(Protocol):
    """Takes what an attempt has to say. `write` blocks until it is stored; it waits while the store is away."""

    def write(
        self, claim: Claim, records: Sequence[NewRecord], *, beside: Beside | None = None, **progress: Any
    ) -> None:
        """Store records, `progress` (columns of the attempt) and what `beside` does: all or nothing.

        Raises `StaleClaim` when the attempt is not the writer's any more.
        """

    def offer(self, claim: Claim, records: Sequence[NewRecord], **progress: Any) -> threading.Event:
        """Store what may also be dropped, as `write` does, and wait for nothing. Never raises.

        The event is set once it is stored, or dropped. Until then offer no more of this attempt: while the store is
        away, all of it would be kept.
        """


@dataclass
class Batch:
    """Records of one attempt and what to store with them. `stored` is set once they are committed.

    `last_seq` is where they ended in a transaction whose commit may or may not have reached the store.
    """

    claim: Claim
    records: Sequence[NewRecord]
    progress: dict[str, Any] = field(default_factory=dict)
    beside: Beside | None = None
    stored: threading.Event = field(default_factory=threading.Event)
    stale: bool = False
    last_seq: int | None = None
    failure: Exception | None = None


class JournalWriter:
    """The `Writer` of live attempts: few transactions for many of them."""

    def __init__(self, database: Database, on_stale: Callable[[Claim], None]) -> None:
        self._database = database
        self._on_stale = on_stale
        self._queue: queue.SimpleQueue[Batch] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    def write(
        self, claim: Claim, records: Sequence[NewRecord], *, beside: Beside | None = None, **progress: Any
    ) -> None:
        batch = Batch(claim, records, progress, beside)
        self._queue.put(batch)
        batch.stored.wait()
        if batch.stale:
            raise StaleClaim(claim)
        if batch.failure is not None:
            raise batch.failure

    def offer(self, claim: Claim, records: Sequence[NewRecord], **progress: Any) -> threading.Event:
        batch = Batch(claim, records, progress)
        self._queue.put(batch)
        return batch.stored

    def _run(self) -> None:
        while True:
            batches = [self._queue.get()]
            while len(batches) < MAX_BATCHES and not self._queue.empty():
                batches.append(self._queue.get())
            self._store(batches)
            for batch in batches:
                batch.stored.set()
                if batch.stale:
                    self._on_stale(batch.claim)

    def _store(self, batches: list[Batch]) -> None:
        while True:
            try:
                with self._database.write() as tx:
                    for batch in batches:
                        _append(tx, batch)
                return
            except StoreUnavailable as error:
                log.warning("store unavailable, output waits in the spool", extra={"error": str(error)})
                time.sleep(RETRY_SECONDS)
            except Exception as error:  # one bad row must not silence the log of every task on this host
                if len(batches) == 1:
                    log.exception("journal batch failed", extra={"task": batches[0].claim.task_id})
                    batches[0].failure = error
                    return
                for batch in batches:
                    self._store([batch])
                return


def _append(tx: sa.Connection, batch: Batch) -> None:
    """Once, also when the answer to an earlier commit was lost: the store tells whether it holds the records."""
    if batch.last_seq is not None and _is_there(tx, batch.claim, batch.last_seq, batch.records):
        return
    try:
        batch.last_seq = journal.append(tx, batch.claim, batch.records, **batch.progress)
    except StaleClaim:  # its UPDATE matched no row: nothing of it was written
        batch.stale = True
        return
    if batch.beside is not None:
        batch.beside(tx)


def _is_there(tx: sa.Connection, claim: Claim, last_seq: int, records: Sequence[NewRecord]) -> bool:
    journal.wait_for_writers(tx, claim.task_id)
    return journal.holds(tx, claim, last_seq, records)


class LateWriter:
    """The `Writer` of an attempt that ended without its worker, for what that worker finds on its return."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(
        self, claim: Claim, records: Sequence[NewRecord], *, beside: Beside | None = None, **progress: Any
    ) -> None:
        last_seq: int | None = None

        def store() -> None:
            nonlocal last_seq
            with self._database.write() as tx:
                if last_seq is not None and _is_there(tx, claim, last_seq, records):
                    return
                last_seq = journal.append_late(tx, claim, records, **progress)
                if beside is not None:
                    beside(tx)

        patiently(store)

    def offer(self, claim: Claim, records: Sequence[NewRecord], **progress: Any) -> threading.Event:
        with suppress(StaleClaim):
            self.write(claim, records, **progress)
        stored = threading.Event()
        stored.set()
        return stored
