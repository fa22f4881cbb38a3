"""The audit trail: who did what, from where, and what came of it. Rows are added, and go when they are too old."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import sqlalchemy as sa

from orchestrator.store.tables import audit

PAGE = 10_000
"""Rows that go in one transaction, which takes some milliseconds."""
LONGEST = 200
"""Characters of a text that somebody outside chose."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One act. `token` and `owner` are None where the API was open; `subject`: what it was about, if that is known."""

    at: datetime
    token: str | None
    owner: str | None
    remote: str
    action: str
    subject: str | None
    status: int
    request_id: str


def plain(text: str) -> str:
    """Text from outside, fit to be stored and shown: short, and nothing in it that a terminal would obey."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text[:LONGEST])


def insert(tx: sa.Connection, entries: Sequence[Entry]) -> None:
    tx.execute(audit.insert(), [asdict(one) for one in entries])


def find(
    tx: sa.Connection,
    *,
    since: datetime | None = None,
    owner: str | None = None,
    action: str | None = None,
    limit: int = 1000,
) -> list[Entry]:
    """The newest entries that match, oldest first."""
    query = sa.select(*(column for column in audit.c if column is not audit.c.position))
    if since is not None:
        query = query.where(audit.c.at >= since)
    if owner is not None:
        query = query.where(audit.c.owner == owner)
    if action is not None:
        query = query.where(audit.c.action == action)
    found = tx.execute(query.order_by(audit.c.position.desc()).limit(limit)).mappings().all()
    return [Entry(**row) for row in reversed(found)]


def delete_before(tx: sa.Connection, at: datetime) -> bool:
    """Delete a page of what is older; true when there may be more."""
    old = sa.select(audit.c.position).where(audit.c.at < at).limit(PAGE)
    return tx.execute(audit.delete().where(audit.c.position.in_(old))).rowcount == PAGE
