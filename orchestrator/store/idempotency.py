"""Idempotency keys: the same key and body answer the same (contract §3)."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from orchestrator.store.tables import idempotency_keys as keys


def find(tx: sa.Connection, owner: str | None, key: str) -> tuple[str, str] | None:
    """Return (fingerprint of the body, task id) that an owner stored under a key."""
    query = sa.select(keys.c.fingerprint, keys.c.task_id).where(keys.c.key == _stored(owner, key))
    row = tx.execute(query).first()
    return (row[0], row[1]) if row else None


def remember(tx: sa.Connection, owner: str | None, key: str, *, fingerprint: str, task_id: str, at: datetime) -> None:
    stored = _stored(owner, key)
    tx.execute(keys.insert().values(key=stored, fingerprint=fingerprint, task_id=task_id, created_at=at))


def _stored(owner: str | None, key: str) -> str:
    """Each owner has keys of its own. Neither an owner nor a header holds a line end."""
    return key if owner is None else f"{owner}\n{key}"
