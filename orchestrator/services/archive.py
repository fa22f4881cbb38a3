"""Move the output of an ended task from the journal into artifact storage; its readers do not notice.

One segment after the other: the object is stored first, then one transaction puts the segment into the index and
deletes exactly the rows that are in it. So it can break off anywhere: what was moved stays moved, and the next try goes
on behind it. An object that no transaction named is stored again, under the same key, by the next try.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import sqlalchemy as sa

from orchestrator import clock, journal
from orchestrator.archive import HEAD_BYTES, MAX_BYTES, MAX_ROWS, Packed, pack
from orchestrator.fault_points import reach
from orchestrator.models import Kind, Record
from orchestrator.product import Product
from orchestrator.services.purge import log_prefix
from orchestrator.states import TERMINAL, State
from orchestrator.store import segments
from orchestrator.store.tables import attempts, records, tasks, workers

log = logging.getLogger(__name__)

SMALL_BYTES = 16 << 10
"""Output below this stays in the journal: an object for each tiny log would cost more than its rows do (a file of
its own, a request to write it, another for each reader), and most tasks say little."""
_PAGE_ROWS = 128


class _Overtaken(Exception):
    """Another archiver moved these rows first: nothing may be stored."""


def archive_task(product: Product, task_id: str) -> bool:
    """Move what the journal holds of the task's output. Return whether nothing is left to do.

    False: the task has not ended, was purged, has something left on its worker, or somebody else is at it; ask again
    later. Idempotent; several may run at once. Raises `StoreUnavailable`, `ArtifactStoreUnavailable`.
    """
    while True:
        with product.database.read() as tx:
            next_seq = _standing(tx, task_id)
            if next_seq is None:
                return False
            rows, more = _next_rows(tx, task_id)
        if not more and sum(_size(row) for row in rows) < SMALL_BYTES:
            return _mark(product, task_id, next_seq)
        packed = pack(task_id, rows)
        product.artifacts.put(_key(task_id, packed), io.BytesIO(packed.data), limit=len(packed.data))
        reach("segment_stored")
        if not _move(product, task_id, packed, len(rows)):
            _remove_orphans(product, task_id)
            return False


def _standing(tx: sa.Connection, task_id: str, *, for_update: bool = False) -> int | None:
    """The task's `next_seq` if its output may be moved; else None.

    What an attempt left on its worker comes late, and its writer asks the journal what is stored already
    (`journal.holds`): nothing may move before. A worker that was removed does not come back for it.
    """
    left = sa.exists().where(
        attempts.c.task_id == tasks.c.id, attempts.c.uncollected, attempts.c.worker == workers.c.name
    )
    query = sa.select(tasks.c.state, tasks.c.next_seq, left.label("left")).where(
        tasks.c.id == task_id, tasks.c.purged_at.is_(None), tasks.c.archived_at.is_(None)
    )
    row = tx.execute(query.with_for_update(of=tasks) if for_update else query).first()
    if row is None or row.left or State(row.state) not in TERMINAL:
        return None
    return int(row.next_seq)


def _next_rows(tx: sa.Connection, task_id: str) -> tuple[list[Record], bool]:
    """The rows of the next segment, and whether there are more behind them."""
    found: list[Record] = []
    size = 0
    for row in _output(tx, task_id):
        size += _size(row)
        if found and (size > MAX_BYTES - HEAD_BYTES or len(found) == MAX_ROWS):
            return found, True
        found.append(row)
    return found, False


def _output(tx: sa.Connection, task_id: str) -> Iterator[Record]:
    cursor = 0
    while page := journal.after(tx, task_id, cursor, kinds=(Kind.OUTPUT,), limit=_PAGE_ROWS):
        yield from page
        cursor = page[-1].last_seq


def _size(row: Record) -> int:
    return len(row.data or b"") + HEAD_BYTES


def _key(task_id: str, packed: Packed) -> str:
    return f"{log_prefix(task_id)}/{packed.name}"


def _mark(product: Product, task_id: str, next_seq: int) -> bool:
    """Say that the task is archived, unless something came since `next_seq` was read."""
    with product.database.write() as tx:
        if _standing(tx, task_id, for_update=True) != next_seq:
            return False
        tx.execute(tasks.update().where(tasks.c.id == task_id).values(archived_at=clock.now()))
        return True


def _move(product: Product, task_id: str, packed: Packed, rows: int) -> bool:
    """Replace `rows` rows by their segment; false, and nothing is stored, when that is not ours to do any more."""
    try:
        with product.database.write() as tx:
            if _standing(tx, task_id, for_update=True) is None:
                return False
            _delete(tx, task_id, packed, rows)
            segments.insert(tx, task_id, packed, _key(task_id, packed), clock.now())
            return True
    except _Overtaken:
        return False


def _delete(tx: sa.Connection, task_id: str, packed: Packed, rows: int) -> None:
    """Delete the rows that were packed; they never change, so it is them if there are as many."""
    of_segment = sa.and_(
        records.c.task_id == task_id,
        records.c.kind == Kind.OUTPUT.value,
        records.c.last_seq.between(packed.name.first_seq, packed.name.last_seq),
    )
    journal.raise_horizon(tx, of_segment)
    done = tx.execute(records.delete().where(of_segment))
    if done.rowcount != rows:
        raise _Overtaken


def _remove_orphans(product: Product, task_id: str) -> None:
    """A purge may have emptied the storage just before our object came. A purged task gets no segments any more."""
    with product.database.read() as tx:
        row = tx.execute(sa.select(tasks.c.purged_at).where(tasks.c.id == task_id)).first()
    if row is None or row.purged_at is not None:
        product.artifacts.delete_prefix(log_prefix(task_id))
