"""Which ended tasks are due for what time does to them, oldest first, in pages.

Each query is one range of the index on `finished_at`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from orchestrator.models import Kind
from orchestrator.store.tables import EPOCH, artifacts, attempts, log_segments, records, tasks, workers


@dataclass(frozen=True, slots=True)
class Span:
    """Tasks that ended up to `until`, behind the place (`end`, `task_id`)."""

    until: datetime
    end: datetime = EPOCH
    task_id: str = ""

    def behind(self, last: Due) -> Span:
        return Span(self.until, last.finished_at, last.task_id)


@dataclass(frozen=True, slots=True)
class Due:
    """A task whose time has come."""

    finished_at: datetime
    task_id: str


_OF_TASK = attempts.c.task_id == tasks.c.id
_KNOWN = attempts.c.worker == workers.c.name
_HELD = sa.exists().where(_OF_TASK, attempts.c.preserved, _KNOWN)
"""A host has its sandbox. Of a worker that was removed nobody would ever hear that it is gone."""
_LEFT = sa.exists().where(_OF_TASK, attempts.c.uncollected, _KNOWN)
_WORDS = (Kind.OUTPUT.value, Kind.EVENT.value)
_SAID = sa.exists().where(records.c.task_id == tasks.c.id, records.c.kind.in_(_WORDS))
_ARCHIVED = sa.exists().where(log_segments.c.task_id == tasks.c.id)
_STORED = sa.exists().where(artifacts.c.task_id == tasks.c.id)
_RESUMABLE = sa.exists().where(_OF_TASK, attempts.c.session.is_not(None))


def to_forget(tx: sa.Connection, span: Span, limit: int) -> list[Due]:
    """Tasks whose rows may go."""
    return _page(tx, span, limit, ~_HELD)


def to_purge(tx: sa.Connection, span: Span, limit: int) -> list[Due]:
    """Tasks whose rows have to stay because a host holds their preserved sandbox, and that still have data."""
    return _page(tx, span, limit, tasks.c.purged_at.is_(None), _HELD)


def to_archive(tx: sa.Connection, span: Span, limit: int) -> list[Due]:
    """Tasks whose output may be in the journal, and of which nothing is left on a worker."""
    return _page(tx, span, limit, tasks.c.archived_at.is_(None), tasks.c.purged_at.is_(None), ~_LEFT)


def with_log(tx: sa.Connection, span: Span, limit: int) -> list[Due]:
    """Tasks that have output, or the words of an agent."""
    return _page(tx, span, limit, tasks.c.purged_at.is_(None), _SAID | _ARCHIVED)


def with_artifacts(tx: sa.Connection, span: Span, limit: int) -> list[Due]:
    """Tasks that have artifacts, or the session of an agent."""
    return _page(tx, span, limit, tasks.c.purged_at.is_(None), _STORED | _RESUMABLE)


def is_held(tx: sa.Connection, task_id: str) -> bool:
    """Tell whether a host holds the task's preserved sandbox."""
    return tx.scalar(sa.select(tasks.c.id).where(tasks.c.id == task_id, _HELD)) is not None


def _page(tx: sa.Connection, span: Span, limit: int, *where: sa.ColumnElement[bool]) -> list[Due]:
    query = (
        sa.select(tasks.c.finished_at, tasks.c.id)
        .where(tasks.c.finished_at.between(span.end, span.until))
        .where((tasks.c.finished_at > span.end) | (tasks.c.id > span.task_id), *where)
        .order_by(tasks.c.finished_at, tasks.c.id)
        .limit(limit)
    )
    return [Due(row[0], row[1]) for row in tx.execute(query)]
