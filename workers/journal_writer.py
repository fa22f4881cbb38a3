"""One thread a worker that writes what all its attempts have to say, in common transactions (design §5)."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator import journal
from orchestrator.journal import StaleClaim
from orchestrator.models import Claim, NewRecord
from orchestrator.store.database import Database, StoreUnavailable

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
MAX_BATCHES = 64


@dataclass
class Batch:
    """Records of one attempt and the facts to store with them. `stored` is set once they are committed."""

    claim: Claim
    records: Sequence[NewRecord]
    progress: dict[str, Any] = field(default_factory=dict)
    stored: threading.Event = field(default_factory=threading.Event)
    stale: bool = False
    failure: Exception | None = None


class JournalWriter:
    """`write` blocks until stored; while the store is away it waits, and so does its caller."""

    def __init__(self, database: Database, on_stale: Callable[[Claim], None]) -> None:
        self._database = database
        self._on_stale = on_stale
        self._queue: queue.SimpleQueue[Batch] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    def write(self, claim: Claim, records: Sequence[NewRecord], **progress: Any) -> None:
        """Store records in the name of a claim; raise `StaleClaim` when it is not the writer's any more."""
        batch = Batch(claim, records, progress)
        self._queue.put(batch)
        batch.stored.wait()
        if batch.stale:
            raise StaleClaim(claim)
        if batch.failure is not None:
            raise batch.failure

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
                        try:
                            journal.append(tx, batch.claim, batch.records, **batch.progress)
                        except StaleClaim:  # its UPDATE matched no row: nothing of it was written
                            batch.stale = True
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
