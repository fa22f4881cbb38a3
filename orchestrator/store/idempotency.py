"""Idempotency keys: the same key and body answer the same (contract §3)."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from orchestrator.store.tables import idempotency_keys as keys


def find(tx: sa.Connection, key: str) -> tuple[str, str] | None:
    """Return (fingerprint of the body, task id) stored under a key."""
    row = tx.execute(sa.select(keys.c.fingerprint, keys.c.task_id).where(keys.c.key == key)).first()
    return (row[0], row[1]) if row else None


def remember(tx: sa.Connection, key: str, fingerprint: str, task_id: str, at: datetime) -> None:
    tx.execute(keys.insert().values(key=key, fingerprint=fingerprint, task_id=task_id, created_at=at))
