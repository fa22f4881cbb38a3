"""A task's journal as its readers see it: what is in the store and what was archived, in one order.

Each page is read from one snapshot of the store, and rows move into segments in one transaction: a page holds a row
from here or from there, never both and never neither. Cursors are sequence numbers, which do not change.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import TypeVar

import sqlalchemy as sa

from orchestrator import journal
from orchestrator.archive import PACKED_EXTRA_BYTES, BrokenSegment, SegmentRows, unpack
from orchestrator.artifacts import ArtifactStore, ArtifactStoreUnavailable
from orchestrator.models import Record
from orchestrator.store import segments
from orchestrator.store.database import Database
from orchestrator.store.segments import Segment

CACHED_SEGMENTS = 8
"""Unpacked segments that are kept for the next page, by all readers of a process together: 64 MiB at most."""
PAGE_ROWS = 256
_PLACE = attrgetter("last_seq")

T = TypeVar("T")


class ArchivedLogUnreadable(ArtifactStoreUnavailable):
    """Part of a log is not in the artifact storage as it was stored."""

    def __init__(self, segment: Segment, why: str) -> None:
        super().__init__(
            f"records {segment.first_seq} to {segment.last_seq} of the log of task {segment.task_id} cannot be read: "
            f"{segment.key} in the artifact storage {why}; restore it from a backup of the storage, or read on behind "
            f"it with after={segment.last_seq}"
        )


class LogReader:
    """Reads the records of one task by cursor. Thread-safe; one object a process.

    Every method may raise `StoreUnavailable`, and `ArtifactStoreUnavailable` when archived output cannot be read:
    a log is given whole or not at all.
    """

    def __init__(self, database: Database, artifacts: ArtifactStore, *, cached: int = CACHED_SEGMENTS) -> None:
        self._database = database
        self._artifacts = artifacts
        self._cached = cached
        self._cache: OrderedDict[tuple[str, str], SegmentRows] = OrderedDict()
        self._lock = threading.Lock()

    def after(self, task_id: str, cursor: int, *, attempt: int | None = None, limit: int = PAGE_ROWS) -> list[Record]:
        """At most `limit` rows that hold anything behind `cursor`, oldest first; the first may begin before it.

        A page may end with a segment; only an empty one says that there is no more.
        """
        while True:
            found, archived = self._looked(
                partial(_after, task_id=task_id, cursor=cursor, attempt=attempt, limit=limit)
            )
            if archived is None:
                return found
            old = list(islice(_of(archived.after(cursor), attempt), limit))
            page = sorted([row for row in old + found if row.last_seq <= archived.last_seq], key=_PLACE)
            if page:
                return page[:limit]
            cursor = archived.last_seq  # nothing of this attempt is left up to there

    def backwards(self, task_id: str, *, attempt: int | None = None, limit: int = PAGE_ROWS) -> Iterator[Record]:
        """Rows from the newest to the oldest, read in pages of `limit`."""
        before: int | None = None
        while True:
            found, archived = self._looked(partial(_before, task_id=task_id, seq=before, attempt=attempt, limit=limit))
            if archived is None:
                yield from found
                if len(found) < limit:
                    return
                before = found[-1].last_seq
                continue
            old = list(islice(_of(archived.before(before), attempt), limit))
            # From `first` on both lists are whole.
            first = old[-1].last_seq if len(old) == limit else archived.first_seq
            first = max(first, found[-1].last_seq) if len(found) == limit else first
            yield from sorted([row for row in old + found if row.last_seq >= first], key=_PLACE, reverse=True)
            before = first

    def since(self, task_id: str, at: datetime) -> int:
        """The cursor before the first record at or after `at`; opens one segment at most."""
        cursor, archived = self._looked(lambda tx: (journal.since(tx, task_id, at), segments.since(tx, task_id, at)))
        if archived is None:
            return cursor
        return min(cursor, next(row.first_seq for row in archived.after(0) if row.at >= at) - 1)

    def check(self, task_id: str, cursor: int, *, attempt: int | None = None) -> None:
        """Raise what reading behind `cursor` would raise at once: while the answer can still be a refusal."""
        self._looked(lambda tx: (None, segments.following(tx, task_id, cursor, attempt)))

    def _looked(self, look: Callable[[sa.Connection], tuple[T, Segment | None]]) -> tuple[T, SegmentRows | None]:
        """What `look` found in one snapshot, and the rows of the segment it named."""
        while True:
            with self._database.read() as tx:
                found, segment = look(tx)
            if segment is None:
                return found, None
            try:  # outside of the transaction: the storage may take its time
                return found, self._rows(segment)
            except KeyError:
                with self._database.read() as tx:
                    if segments.holds(tx, segment):
                        raise ArchivedLogUnreadable(segment, "is missing") from None
                # The task's data was removed since we looked: look again, there is less of it now.

    def _rows(self, segment: Segment) -> SegmentRows:
        key = (segment.key, segment.sha256)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        rows = self._fetch(segment)
        with self._lock:
            self._cache[key] = rows
            while len(self._cache) > self._cached:
                self._cache.popitem(last=False)
        return rows

    def _fetch(self, segment: Segment) -> SegmentRows:
        packed = b"".join(self._artifacts.open(segment.key, 0, segment.size_bytes + PACKED_EXTRA_BYTES))
        try:
            raw = unpack(packed, size_bytes=segment.size_bytes, sha256=segment.sha256)
            return SegmentRows(segment.task_id, raw)
        except BrokenSegment as error:
            raise ArchivedLogUnreadable(segment, f"is damaged: {error}") from error


def _after(
    tx: sa.Connection, *, task_id: str, cursor: int, attempt: int | None, limit: int
) -> tuple[list[Record], Segment | None]:
    found = journal.after(tx, task_id, cursor, attempt=attempt, limit=limit)
    return found, segments.following(tx, task_id, cursor, attempt)


def _before(
    tx: sa.Connection, *, task_id: str, seq: int | None, attempt: int | None, limit: int
) -> tuple[list[Record], Segment | None]:
    found = journal.before(tx, task_id, seq, attempt=attempt, limit=limit)
    return found, segments.preceding(tx, task_id, seq, attempt)


def _of(rows: Iterator[Record], attempt: int | None) -> Iterator[Record]:
    return rows if attempt is None else (row for row in rows if row.attempt == attempt)
