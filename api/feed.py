"""Followers of a task's journal: one watcher a process reads what is new once and hands it to all (design §5)."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from api import watcher
from api.rendering import Row
from orchestrator import journal
from orchestrator.models import Record, Task
from orchestrator.store import segments, tasks
from orchestrator.store.database import Database
from orchestrator.store.tables import tasks as table

KEPT_ROWS = 1024
KEPT_BYTES = 8 << 20
HANDED_BYTES = 64 << 10
"""A follower gets so much at once. One that has stopped reading holds it for as long as it stays (fault F12)."""
FIRST_ROWS = 16
MOST_ROWS = 256
"""Read from the store at once: first, and once rows have shown to be small."""


class Feed:
    """The newest rows of one task, shared by all its followers. Thread-safe.

    A follower whose cursor is before `floor` reads from the store until it has caught up.
    """

    def __init__(self, last_seq: int) -> None:
        self._changed = threading.Condition()
        self._rows: deque[Row] = deque()
        self._bytes = 0
        self.floor = last_seq
        self.last_seq = last_seq
        self.followers = 0

    def push(self, rows: list[Row]) -> None:
        with self._changed:
            self._rows.extend(rows)
            self._bytes += sum(row.size_bytes for row in rows)
            self.last_seq = rows[-1].record.last_seq
            while len(self._rows) > 1 and (len(self._rows) > KEPT_ROWS or self._bytes > KEPT_BYTES):
                dropped = self._rows.popleft()
                self._bytes -= dropped.size_bytes
                self.floor = dropped.record.last_seq
            self._changed.notify_all()

    def pass_over(self, last_seq: int) -> None:
        """Keep nothing up to `last_seq`: followers read it from the store, with what was archived."""
        with self._changed:
            self._rows.clear()
            self._bytes = 0
            self.floor = self.last_seq = last_seq
            self._changed.notify_all()

    def after(self, cursor: int, timeout_seconds: float) -> list[Row] | None:
        """The next rows behind `cursor`; an empty list when the time is over, None when the store must be asked."""
        with self._changed:
            if cursor < self.floor:
                return None
            if cursor >= self.last_seq and timeout_seconds > 0:
                self._changed.wait(timeout_seconds)
            if cursor < self.floor:
                return None
            return list(_handed(row for row in self._rows if row.record.last_seq > cursor))


def _handed(rows: Iterator[Row]) -> Iterator[Row]:
    size = 0
    for row in rows:
        yield row
        size += row.size_bytes
        if size >= HANDED_BYTES:
            return


class Hub:
    """All feeds of this process, and the one thread that fills them. It sleeps while nobody follows."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._feeds: dict[str, Feed] = {}
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        watcher.start("journal-watcher", database, self._wanted, self._fill)

    @contextmanager
    def feed(self, task_id: str) -> Iterator[Feed]:
        """Subscribe to a task; what is committed from now on is in the feed or in the store."""
        with self._lock:
            feed = self._feeds.get(task_id)
            if feed is None:
                with self._database.read() as tx:
                    feed = self._feeds[task_id] = Feed(journal.last_seq(tx, task_id))
            feed.followers += 1
            self._wanted.set()
        try:
            yield feed
        finally:
            with self._lock:
                feed.followers -= 1
                if feed.followers == 0:
                    del self._feeds[task_id]
                if not self._feeds:
                    self._wanted.clear()

    def wait_terminal(self, task_id: str, timeout_seconds: float) -> Task | None:
        """Wait until a task has ended, or the time is over; return it as it is then."""
        deadline = time.monotonic() + timeout_seconds
        with self.feed(task_id) as feed:
            cursor = feed.last_seq
            ended = self._ended(task_id)
            while not ended and (left := deadline - time.monotonic()) > 0:
                rows = feed.after(cursor, left)
                # Taken before the task is read: an end behind this cursor is in that read, a later one in the feed.
                cursor = rows[-1].record.last_seq if rows else feed.last_seq if rows is None else cursor
                ended = (rows is None or any(row.ends for row in rows)) and self._ended(task_id)
        with self._database.read() as tx:
            return tasks.get(tx, task_id)

    def _ended(self, task_id: str) -> bool:
        """True when a task has ended, or is not there any more."""
        with self._database.read() as tx:
            task = tasks.look(tx, task_id)
        return task is None or task.is_terminal

    def _fill(self) -> float:
        with self._lock:
            feeds = dict(self._feeds)
        if not feeds:
            return watcher.IDLE_SECONDS
        with self._database.read() as tx:
            query = sa.select(table.c.id, table.c.next_seq).where(table.c.id.in_(list(feeds)))
            for task_id, next_seq in tx.execute(query).all():
                feed = feeds[task_id]
                if feed.last_seq < next_seq - 1 and segments.following(tx, task_id, feed.last_seq):
                    # The storage may be slow, or away: that is the business of who follows this task.
                    feed.pass_over(next_seq - 1)
                while feed.last_seq < next_seq - 1:
                    found = journal.after(tx, task_id, feed.last_seq)
                    if not found:
                        break
                    feed.push([Row(record) for record in found])
        return watcher.IDLE_SECONDS


def follow(
    feed: Feed,
    cursor: int,
    *,
    read: Callable[[int, int], list[Record]],
    silence_left: Callable[[], float],
    ended: Callable[[], bool],
) -> Iterator[list[Row]]:
    """Yield rows behind `cursor` as they come, until the task has ended. `read` gives what is stored
    behind a cursor, at most so many rows.

    An empty list says that nothing came for the seconds that `silence_left` allowed.
    """

    limit = FIRST_ROWS

    def stored() -> list[Row]:
        nonlocal limit
        found = read(cursor, limit)
        rows = list(_handed(map(Row, found)))
        limit = len(rows) if len(rows) < len(found) else min(2 * limit, MOST_ROWS)
        return rows

    caught_up = False
    while True:
        rows = feed.after(cursor, silence_left() if caught_up else 0)
        if rows is None:
            rows = stored()
        if not rows:
            # The end comes as a row, but it may lie before the feed's beginning or the reader's cursor.
            if ended():
                rows = stored()
                if not rows:
                    return
            elif caught_up:
                yield []
            caught_up = True
        if rows:
            yield rows
            cursor = rows[-1].record.last_seq
            if any(row.ends for row in rows):
                return
