"""Which process does what one in the installation does at a time: the one that holds the office, by its lock."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from orchestrator.store.database import Database


@dataclass(frozen=True, slots=True)
class Office:
    """`name` is that of the lock's file beside an SQLite store, `key` that of PostgreSQL's advisory lock."""

    name: str
    key: int


REAPER = Office("reaper", 0x5A4DB0C7)
NOTIFIER = Office("notifier", 0x5A4DB0C8)


@contextmanager
def leadership(database: Database, office: Office) -> Iterator[Callable[[], bool]]:
    """Take the lock of an office if it is free; what is yielded tells whether it is held (still).

    The store frees it when the holder dies: no row with a date. On PostgreSQL it lasts as long as its
    connection, so it can be lost before. Raises `StoreUnavailable`.
    """
    if database.is_sqlite:
        file = Path(str(database.url.database)).with_suffix(f".{office.name}.lock")
        lock = os.open(file, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            held = _flocked(lock)
            yield lambda: held
        finally:
            os.close(lock)
        return
    with database.session() as connection:
        held = bool(connection.scalar(sa.text("SELECT pg_try_advisory_lock(:key)"), {"key": office.key}))
        try:
            yield lambda: held and _answers(connection)
        finally:
            if held and _answers(connection):
                connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": office.key})


def _answers(connection: sa.Connection) -> bool:
    if connection.invalidated:  # a new one would answer, and not hold the lock
        return False
    try:
        connection.execute(sa.text("SELECT 1"))
    except sa.exc.DBAPIError:
        return False
    return True


def _flocked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
