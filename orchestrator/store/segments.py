"""Which parts of a task's output are archived; the bytes are in the artifact storage (`orchestrator.archive`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator.archive import Packed, SegmentName
from orchestrator.store.tables import log_segments as table


@dataclass(frozen=True, slots=True)
class Segment:
    """A stored segment. `size_bytes` and `sha256` are of its unpacked bytes, `stored_bytes` is what it takes."""

    task_id: str
    first_seq: int
    last_seq: int
    key: str
    size_bytes: int
    stored_bytes: int
    sha256: str
    created_at: datetime

    @property
    def name(self) -> SegmentName:
        return SegmentName.of_key(self.key)


def insert(tx: sa.Connection, task_id: str, packed: Packed, key: str, at: datetime) -> None:
    tx.execute(
        table.insert().values(
            task_id=task_id,
            first_seq=packed.name.first_seq,
            last_seq=packed.name.last_seq,
            key=key,
            size_bytes=packed.size_bytes,
            stored_bytes=len(packed.data),
            sha256=packed.sha256,
            created_at=at,
        )
    )


def following(tx: sa.Connection, task_id: str, cursor: int, attempt: int | None = None) -> Segment | None:
    """The first segment that holds anything behind `cursor`, of this attempt if one is given."""
    return _first_of(tx, _of(task_id).where(table.c.last_seq > cursor).order_by(table.c.last_seq), attempt)


def preceding(tx: sa.Connection, task_id: str, seq: int | None, attempt: int | None = None) -> Segment | None:
    """The last segment that holds anything before `seq` (None: at all), of this attempt if one is given."""
    query = _of(task_id).order_by(table.c.last_seq.desc())
    return _first_of(tx, query if seq is None else query.where(table.c.first_seq < seq), attempt)


def since(tx: sa.Connection, task_id: str, at: datetime) -> Segment | None:
    """The first segment with a row from `at` on."""
    found = _all(tx, _of(task_id).order_by(table.c.last_seq))
    return next((one for one in found if one.name.newest >= at), None)


def holds(tx: sa.Connection, segment: Segment) -> bool:
    """Tell whether the store still knows this segment."""
    query = sa.select(table.c.key).where(table.c.task_id == segment.task_id, table.c.last_seq == segment.last_seq)
    return tx.scalar(query) == segment.key


def delete_of(tx: sa.Connection, task_id: str) -> None:
    tx.execute(table.delete().where(table.c.task_id == task_id))


def _of(task_id: str) -> sa.Select[Any]:
    return sa.select(table).where(table.c.task_id == task_id)


def _first_of(tx: sa.Connection, query: sa.Select[Any], attempt: int | None) -> Segment | None:
    found = _all(tx, query.limit(1) if attempt is None else query)
    return next((one for one in found if attempt is None or one.name.holds(attempt)), None)


def _all(tx: sa.Connection, query: sa.Select[Any]) -> Iterator[Segment]:
    return (Segment(**row) for row in tx.execute(query).mappings())
