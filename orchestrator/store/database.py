"""A connection to the store: SQLite beside the data, or PostgreSQL; the same SQL on both."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from orchestrator import clock
from orchestrator.store import tables
from orchestrator.store.doorbell import Doorbell, PostgresDoorbell, SqliteDoorbell

BUSY_TIMEOUT_MS = 30_000
CHANNEL = "sandbox_journal"


class StoreUnavailable(Exception):
    """The store does not answer; nothing was written. Try again when it is back."""


class Database:
    """Transactions on the store. Thread-safe; one object a process.

    A transaction that cannot be begun or committed raises `StoreUnavailable`.
    """

    def __init__(self, url: str) -> None:
        self.url = sa.make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite:
            Path(self.url.database or "").parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        elif self.url.get_driver_name() != "psycopg":
            self.url = self.url.set(drivername="postgresql+psycopg")
        # pool_pre_ping: a connection that a restarted server dropped is replaced, not handed out.
        self.engine = sa.create_engine(
            self.url, pool_size=8, max_overflow=24, pool_timeout=30, pool_pre_ping=not self.is_sqlite
        )
        # SQLite lets one writer in at a time and makes others sleep; within a process a lock wakes them sooner.
        self._writers: Any = threading.Lock() if self.is_sqlite else nullcontext()
        if self.is_sqlite:
            sa.event.listen(self.engine, "connect", _configure_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent snapshot."""
        with _translated(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A write transaction: all of it is stored when the block ends, or nothing."""
        with _translated(), self._writers, self.engine.connect() as connection:
            connection = connection.execution_options(write=True)
            with connection.begin():
                yield connection

    def ping(self) -> None:
        """Raise `StoreUnavailable` unless the store answers."""
        with self.read() as tx:
            tx.execute(sa.text("SELECT 1"))

    def installation_id(self) -> str:
        """The id made with the store: labels of sandboxes carry it."""
        with self.write() as tx:
            found: str | None = tx.scalar(sa.select(tables.installation.c.id))
            if found is None:
                found = uuid.uuid4().hex[:12]
                tx.execute(tables.installation.insert().values(id=found, created_at=clock.now()))
            return found

    def doorbell(self) -> Doorbell:
        """A new doorbell: rings after a commit by any process."""
        if self.is_sqlite:
            return SqliteDoorbell(str(self.url.database))
        return PostgresDoorbell(self.url.set(drivername="postgresql").render_as_string(hide_password=False), CHANNEL)

    def close(self) -> None:
        self.engine.dispose()


def ring(tx: sa.Connection) -> None:
    """Ring the doorbell when `tx` commits. SQLite's is the file itself."""
    if tx.dialect.name == "postgresql":
        tx.execute(sa.text(f"NOTIFY {CHANNEL}"))


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, see `_begin_sqlite`
    cursor = connection.cursor()
    # FULL: a commit survives power loss; NORMAL may lose the last ones, which breaks "nothing accepted is lost".
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # IMMEDIATE takes the write lock at once: a read that turns into a write could fail half-way otherwise.
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        raise StoreUnavailable(f"the store does not answer: {error}") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise StoreUnavailable(f"the connection to the store broke: {error}") from error
        raise
