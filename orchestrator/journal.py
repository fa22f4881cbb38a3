"""The append-only journal of a task: one sequence, gapless in commit order (design §5).

A row of output holds many lines. Each line (or 64 KiB piece of one) has a sequence number of its own, so
that a reader can be cut after any line and resume: `Record.first_seq`..`last_seq`, split by `pieces()`.

What is no part of the task's log (`Kind.is_aside`) is numbered -1, -2, …: readers of the log, whose cursors begin at
0, never meet it. Readers of all tasks' records do, in the order of commits (`all_after`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator.models import Claim, Kind, NewRecord, Record
from orchestrator.states import State
from orchestrator.store import rows
from orchestrator.store.database import ring
from orchestrator.store.tables import attempts, horizons, installation, records, tasks

PIECE_BYTES = 64 << 10
"""A longer line is delivered in pieces (contract §5)."""
ROW_BYTES = 64 << 10


class StaleClaim(Exception):
    """This attempt is not the writer's any more: stop, destroy the sandbox, write nothing."""

    def __init__(self, claim: Claim) -> None:
        super().__init__(f"attempt {claim.attempt} of task {claim.task_id} (fence {claim.fence}) was taken over")
        self.claim = claim


def pieces(data: bytes) -> list[bytes]:
    """Split output into lines, line ends kept, a long line into pieces of at most `PIECE_BYTES`.

    No piece ends within a UTF-8 character: each is decoded by itself.
    """
    lines = data.split(b"\n")
    last = lines.pop()
    whole = [line + b"\n" for line in lines] + ([last] if last else [])
    if len(data) <= PIECE_BYTES:
        return whole
    return [piece for line in whole for piece in _cut(line)]


def _cut(line: bytes) -> Iterator[bytes]:
    start = 0
    while len(line) - start > PIECE_BYTES:
        end = whole_characters(line, start + PIECE_BYTES)
        yield line[start:end]
        start = end
    yield line[start:]


def whole_characters(data: bytes, end: int) -> int:
    """The last place up to `end` that cuts no UTF-8 character in two; `end` itself in other encodings."""
    for back in range(1, min(4, end) + 1):
        byte = data[end - back]
        if byte & 0xC0 != 0x80:
            length = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
            return end - back if length > back else end
    return end


def output(stream: str, data: bytes, at: datetime) -> NewRecord:
    """One row of output: `data` as printed, at most a few pieces over `ROW_BYTES`."""
    size = data.count(b"\n") + (0 if data.endswith(b"\n") else 1)
    if len(data) > PIECE_BYTES:
        size = len(pieces(data))
    return NewRecord(Kind.OUTPUT, at, stream, {}, data, size)


def append(tx: sa.Connection, claim: Claim, new: Sequence[NewRecord], **progress: Any) -> int:
    """Append records in the name of a claim; return the last sequence number given.

    `progress` are columns of the attempt to store with them (`spool_offset`, `output_bytes`, …).
    Raises `StaleClaim` when the fence has moved on.
    """
    written = sum(len(one.data) for one in new if one.data)
    values: dict[str, Any] = {}
    if written:
        values = {"output_bytes": tasks.c.output_bytes + written, "last_activity_at": new[-1].at}
    ours = (tasks.c.id == claim.task_id, tasks.c.attempt == claim.attempt, tasks.c.fence == claim.fence)
    places = take_places(tx, new, *ours, **values)
    if places is None:
        raise StaleClaim(claim)
    return _add(tx, claim, places, new, progress)


def append_late(tx: sa.Connection, claim: Claim, new: Sequence[NewRecord], **progress: Any) -> int:
    """Append what an attempt that has ended left on its worker (`Attempt.uncollected`); see `append`.

    Raises `StaleClaim` when nothing is to be collected any more: it was, or the task's data was removed.
    """
    written = sum(len(one.data) for one in new if one.data)
    left = (
        sa.select(attempts.c.number)
        .where(attempts.c.task_id == claim.task_id, attempts.c.number == claim.attempt)
        .where(attempts.c.fence == claim.fence, attempts.c.uncollected)
        .exists()
    )
    ours = (tasks.c.id == claim.task_id, tasks.c.purged_at.is_(None), left)
    places = take_places(tx, new, *ours, output_bytes=tasks.c.output_bytes + written)
    if places is None:
        raise StaleClaim(claim)
    return _add(tx, claim, places, new, progress)


@dataclass(frozen=True, slots=True)
class Places:
    """The next number in the log of a task, and the next of its asides, which count downwards."""

    seq: int
    aside: int


FIRST_PLACES = Places(1, -1)
"""Those of a task that has said nothing yet."""


def take_places(
    tx: sa.Connection, new: Iterable[NewRecord], *where: sa.ColumnElement[bool], **values: Any
) -> Places | None:
    """Take a place for each of `new` in the one task that `where` selects, with `values` set beside; None: no row."""
    kept = list(new)
    count = sum(one.size for one in kept if not one.kind.is_aside)
    asides = sum(1 for one in kept if one.kind.is_aside)
    taken = {"next_seq": tasks.c.next_seq + count, "next_aside": tasks.c.next_aside - asides}
    first = (tasks.c.next_seq - count, tasks.c.next_aside + asides)
    row = tx.execute(tasks.update().where(*where).values(values | taken).returning(*first)).first()
    return Places(*row) if row else None


def _add(tx: sa.Connection, claim: Claim, places: Places, new: Sequence[NewRecord], progress: dict[str, Any]) -> int:
    if progress:
        where = (attempts.c.task_id == claim.task_id, attempts.c.number == claim.attempt)
        tx.execute(attempts.update().where(*where).values(progress))
    return insert(tx, claim.task_id, claim.attempt, places, new)


def wait_for_writers(tx: sa.Connection, task_id: str) -> None:
    """Wait until what others write about the task is committed or undone: also a commit whose answer was lost."""
    tx.execute(sa.select(tasks.c.id).where(tasks.c.id == task_id).with_for_update())


def holds(tx: sa.Connection, claim: Claim, last_seq: int, new: Sequence[NewRecord]) -> bool:
    """Tell whether `new` is stored, ending at `last_seq`: what a commit says whose answer was lost."""
    if not new:
        return False
    query = sa.select(records.c.position).where(
        records.c.task_id == claim.task_id,
        records.c.attempt == claim.attempt,
        records.c.last_seq == last_seq,
        records.c.kind == new[-1].kind.value,
        records.c.first_seq == last_seq - new[-1].size + 1,
    )
    return tx.scalar(query) is not None


def insert(tx: sa.Connection, task_id: str, attempt: int, places: Places, new: Iterable[NewRecord]) -> int:
    """Store records at places already taken from the task; ring the doorbell. Return the number of the last one."""
    values, seq, aside, last = [], places.seq, places.aside, 0
    for one in new:
        first, last = (aside, aside) if one.kind.is_aside else (seq, seq + one.size - 1)
        values.append(
            {
                "task_id": task_id,
                "attempt": attempt,
                "first_seq": first,
                "last_seq": last,
                "at": one.at,
                "kind": one.kind.value,
                "stream": one.stream,
                "body": one.body,
                "data": one.data,
            }
        )
        aside, seq = (aside - 1, seq) if one.kind.is_aside else (aside, last + 1)
    if values:
        if tx.dialect.name == "postgresql":  # writers commit in any order there; SQLite has one at a time
            transaction_id = tx.scalar(sa.select(_transaction_of(task_id, places)))
            values = [{**one, "transaction_id": transaction_id} for one in values]
        tx.execute(records.insert(), values)
        ring(tx)
    return last


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """How far a reader of all tasks' records is: the transaction that wrote them, and the row."""

    transaction_id: int = 0
    position: int = 0


_BASE = sa.func.coalesce(sa.select(installation.c.transaction_base).scalar_subquery(), 0)
_TRANSACTION = _BASE + sa.cast(sa.cast(sa.func.pg_current_xact_id(), sa.String), sa.BigInteger)
_OLDEST_RUNNING = _BASE + sa.cast(
    sa.cast(sa.func.pg_snapshot_xmin(sa.func.pg_current_snapshot()), sa.String), sa.BigInteger
)


def _transaction_of(task_id: str, places: Places) -> sa.ColumnElement[int]:
    """This transaction's number, or that of the record before in the same task, whichever is higher.

    A transaction that began earlier may come to a task's row later, and commit later: with its own number it would
    put what happened later in front of what readers of all tasks may have seen. Its own is lower still, so
    they wait for it all the same (`all_after`).
    """
    before = (
        sa.select(sa.func.max(records.c.transaction_id))
        .where(records.c.task_id == task_id, records.c.last_seq.in_([places.seq - 1, places.aside + 1]))
        .scalar_subquery()
    )
    return sa.func.greatest(_TRANSACTION, sa.func.coalesce(before, 0))


def all_after(
    tx: sa.Connection, place: Place, *, kinds: Collection[Kind] = (), task_id: str | None = None, limit: int = 256
) -> tuple[list[Record], Place]:
    """Records of all tasks (or of one) behind `place`, each exactly once, and the place behind them.

    For a `read()` transaction. The records of one task come in the order in which they happened.

    On PostgreSQL a later row may be committed before an earlier one. So rows are read in the order of their
    transactions, and only those of transactions before the oldest one that still runs: behind such a row nothing
    can appear in front of it.
    """
    row = sa.tuple_(records.c.transaction_id, records.c.position)
    query = sa.select(records).where(row > sa.tuple_(place.transaction_id, place.position))
    if tx.dialect.name == "postgresql":
        query = query.where(records.c.transaction_id < _OLDEST_RUNNING)
    if kinds:
        query = query.where(records.c.kind.in_([kind.value for kind in kinds]))
    if task_id is not None:
        query = query.where(records.c.task_id == task_id)
    query = query.order_by(records.c.transaction_id, records.c.position).limit(limit)
    found = [rows.record(one) for one in tx.execute(query).mappings()]
    return found, place_of(found[-1]) if found else place


def place_of(record: Record) -> Place:
    """The place of a record that was read from the store."""
    return Place(record.transaction_id, record.position)


def newest(tx: sa.Connection) -> Place:
    """The place behind everything that `all_after` gives now."""
    query = sa.select(records.c.transaction_id, records.c.position)
    if tx.dialect.name == "postgresql":
        query = query.where(records.c.transaction_id < _OLDEST_RUNNING)
    query = query.order_by(records.c.transaction_id.desc(), records.c.position.desc())
    found = tx.execute(query.limit(1)).first()
    return Place(*found) if found else Place()


def latest(tx: sa.Connection) -> Place:
    """The place behind all that this snapshot knows, also what `all_after` does not give yet."""
    query = sa.select(records.c.transaction_id, records.c.position)
    found = tx.execute(query.order_by(records.c.transaction_id.desc(), records.c.position.desc()).limit(1)).first()
    return Place(*found) if found else Place()


def ahead(tx: sa.Connection) -> dict[str, int]:
    """What this snapshot knows and `all_after` does not give yet: the last number by task. None on SQLite."""
    if tx.dialect.name != "postgresql":
        return {}
    query = sa.select(records.c.task_id, sa.func.max(records.c.last_seq), sa.func.min(records.c.last_seq))
    found = tx.execute(query.where(records.c.transaction_id >= _OLDEST_RUNNING).group_by(records.c.task_id))
    return {row[0]: int(row[1]) for row in found}


def is_held_back(tx: sa.Connection, place: Place) -> bool:
    """True when there are records behind `place` that an older transaction keeps `all_after` from giving."""
    if tx.dialect.name != "postgresql":
        return False
    row = sa.tuple_(records.c.transaction_id, records.c.position)
    behind = sa.select(records.c.position).where(row > sa.tuple_(place.transaction_id, place.position))
    return tx.scalar(behind.limit(1)) is not None


def state_before(tx: sa.Connection, record: Record) -> State | None:
    """The state of a task when one of its records was written; None when nothing tells."""
    query = sa.select(records.c.body).where(
        records.c.task_id == record.task_id,
        records.c.kind == sa.literal_column(f"'{Kind.STATE_CHANGE.value}'"),  # as the index `state_changes` says it
        records.c.position < record.position,
    )
    body = tx.scalar(query.order_by(records.c.position.desc()).limit(1))
    return State(body["new_state"]) if body else None


def horizon(tx: sa.Connection, kinds: Collection[Kind]) -> Place:
    """Up to where records of these kinds may be missing, for readers of all tasks: they were archived or removed."""
    query = sa.select(horizons.c.transaction_id, horizons.c.position)
    found = tx.execute(query.where(horizons.c.kind.in_([kind.value for kind in kinds]))).all()
    return max((Place(*row) for row in found), default=Place())


def raise_horizon(tx: sa.Connection, removed: sa.ColumnElement[bool]) -> None:
    """Note how far the records that `removed` selects reach. Called before they are deleted."""
    latest = (
        sa.select(records.c.kind, sa.func.max(records.c.transaction_id), sa.func.max(records.c.position))
        .where(removed)
        .group_by(records.c.kind)
        .order_by(records.c.kind)  # two at once must not wait for each other
    )
    insert_one = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    for kind, transaction_id, position in tx.execute(latest).all():
        new = insert_one(horizons).values(kind=kind, transaction_id=transaction_id, position=position)
        later = sa.tuple_(new.excluded.transaction_id, new.excluded.position) > sa.tuple_(
            horizons.c.transaction_id, horizons.c.position
        )
        moved = {"transaction_id": new.excluded.transaction_id, "position": new.excluded.position}
        tx.execute(new.on_conflict_do_update(index_elements=[horizons.c.kind], set_=moved, where=later))


def after(
    tx: sa.Connection,
    task_id: str,
    cursor: int,
    *,
    attempt: int | None = None,
    kinds: Collection[Kind] = (),
    limit: int = 256,
) -> list[Record]:
    """Rows that hold anything behind `cursor`, oldest first. The first may begin before it.

    Without what was archived, as all below: `log_reader.LogReader` reads both.
    """
    query = _rows_of(task_id, attempt).where(records.c.last_seq > cursor)
    if kinds:
        query = query.where(records.c.kind.in_([kind.value for kind in kinds]))
    return [rows.record(row) for row in tx.execute(query.order_by(records.c.last_seq).limit(limit)).mappings()]


def before(
    tx: sa.Connection, task_id: str, seq: int | None, *, attempt: int | None = None, limit: int = 256
) -> list[Record]:
    """Rows that end before `seq` (None: all), newest first."""
    query = _rows_of(task_id, attempt).where(records.c.last_seq > 0)
    if seq is not None:
        query = query.where(records.c.last_seq < seq)
    return [rows.record(row) for row in tx.execute(query.order_by(records.c.last_seq.desc()).limit(limit)).mappings()]


def _rows_of(task_id: str, attempt: int | None) -> sa.Select[Any]:
    query = sa.select(records).where(records.c.task_id == task_id)
    return query if attempt is None else query.where(records.c.attempt == attempt)


def since(tx: sa.Connection, task_id: str, at: datetime) -> int:
    """Return the cursor before the first record at or after `at`."""
    query = sa.select(sa.func.min(records.c.first_seq)).where(records.c.task_id == task_id, records.c.at >= at)
    first = tx.scalar(query.where(records.c.last_seq > 0))
    return int(first) - 1 if first is not None else last_seq(tx, task_id)


def before_attempt(tx: sa.Connection, task_id: str, attempt: int) -> int:
    """The cursor before the first record of an attempt: its state changes begin it, and they stay in the store."""
    query = sa.select(sa.func.min(records.c.first_seq)).where(records.c.last_seq > 0)
    first = tx.scalar(query.where(records.c.task_id == task_id, records.c.attempt >= attempt))
    return int(first) - 1 if first is not None else 0


def last_seq(tx: sa.Connection, task_id: str) -> int:
    """The newest sequence number of a task, 0 when it has none."""
    found = tx.scalar(sa.select(tasks.c.next_seq).where(tasks.c.id == task_id))
    return int(found or 1) - 1


def delete_of(tx: sa.Connection, task_id: str) -> None:
    """Remove what a task said and used, and the product's words; its state changes and why attempts failed stay."""
    kept = (Kind.STATE_CHANGE.value, Kind.ERROR.value)
    removed = sa.and_(records.c.task_id == task_id, records.c.kind.not_in(kept))
    raise_horizon(tx, removed)
    tx.execute(records.delete().where(removed))
