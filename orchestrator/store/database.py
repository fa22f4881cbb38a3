"""A connection to the store: SQLite beside the data, or PostgreSQL; the same SQL on both."""

from __future__ import annotations

import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from orchestrator import clock
from orchestrator.store import tables
from orchestrator.store.doorbell import Doorbell, PostgresDoorbell, SqliteDoorbell

BUSY_TIMEOUT_SECONDS = 30.0
"""How long a writer waits for the others before it gives up."""
IDLE_TIMEOUT_SECONDS = 15.0
"""How long a process may be silent within a transaction on PostgreSQL. One that is paused, or whose host is suspended,
keeps its rows locked, and with them placement for everybody; then the server ends its transaction."""
CHANNEL = "sandbox_journal"


class StoreUnavailable(Exception):
    """The store does not answer; nothing was written. Try again when it is back."""

    exit_code = 5


class Database:
    """Transactions on the store. Thread-safe; one object a process.

    A transaction that cannot be begun or committed raises `StoreUnavailable`. Raises `ValueError` for the URL of
    another kind of database.
    """

    def __init__(
        self,
        url: str,
        *,
        busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS,
        idle_timeout_seconds: float = IDLE_TIMEOUT_SECONDS,
    ) -> None:
        self.url = _understood(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._busy_timeout_seconds = busy_timeout_seconds
        self._idle_timeout_seconds = idle_timeout_seconds
        if self.is_sqlite:
            Path(str(self.url.database)).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # pool_pre_ping: a connection that a restarted server dropped is replaced, not handed out.
        self.engine = sa.create_engine(
            self.url, pool_size=8, max_overflow=24, pool_timeout=30, pool_pre_ping=not self.is_sqlite
        )
        self._turn = threading.Lock()
        if self.is_sqlite:
            sa.event.listen(self.engine, "connect", self._configure_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)
        else:
            sa.event.listen(self.engine, "connect", self._configure_postgres)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent snapshot."""
        with _translated(), self.engine.connect() as connection:
            if not self.is_sqlite:  # which needs to be told; SQLite's transactions are snapshots
                connection.execution_options(**_POSTGRES_SNAPSHOT)
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A write transaction: all of it is stored when the block ends, or nothing."""
        with _translated(), self._writers_turn(), self.engine.connect() as connection:
            connection.execution_options(write=True)
            with connection.begin():
                yield connection

    @contextmanager
    def session(self) -> Iterator[sa.Connection]:
        """A connection without a transaction, for locks that belong to it (PostgreSQL's advisory locks)."""
        with _translated(), self.engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    def ping(self) -> None:
        """Raise `StoreUnavailable` unless the store answers."""
        with self.read() as tx:
            tx.execute(sa.text("SELECT 1"))

    def installation_id(self) -> str:
        """The id made with the store: labels of sandboxes carry it."""
        with self.write() as tx:
            if not self.is_sqlite:  # two processes at their first start must not make two
                tx.execute(sa.text("LOCK TABLE installation IN EXCLUSIVE MODE"))
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

    @contextmanager
    def _writers_turn(self) -> Iterator[None]:
        """SQLite lets one writer in at a time and makes others sleep; within a process a lock wakes them sooner."""
        if not self.is_sqlite:
            yield
            return
        if not self._turn.acquire(timeout=self._busy_timeout_seconds):
            raise StoreUnavailable("the store does not answer: other writers of this process wait for it too")
        try:
            yield
        finally:
            self._turn.release()

    def _configure_postgres(self, connection: Any, _record: Any) -> None:
        connection.autocommit = True  # a setting that is made within a transaction ends with it
        connection.execute(f"SET idle_in_transaction_session_timeout = {round(self._idle_timeout_seconds * 1000)}")
        connection.autocommit = False

    def _configure_sqlite(self, connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, see `_begin_sqlite`
        cursor = connection.cursor()
        # FULL: a commit survives power loss; NORMAL may lose the last ones, which breaks "nothing accepted is lost".
        for pragma in (
            f"busy_timeout={round(self._busy_timeout_seconds * 1000)}",
            "synchronous=FULL",
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        _use_wal(cursor, time.monotonic() + self._busy_timeout_seconds)
        cursor.close()


_POSTGRES_SNAPSHOT: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


def _understood(url: str) -> sa.URL:
    """The URL with the driver we use; raise `ValueError` for what is neither SQLite nor PostgreSQL."""
    scheme = url.partition(":")[0].partition("+")[0]
    try:
        parsed = sa.make_url(url)
    except ArgumentError:
        scheme = ""
    if scheme in {"postgresql", "postgres"} and "@" in (parsed.host or ""):  # it would be shown as part of the host
        raise ValueError(
            "SANDBOX_STORE_URL holds a character in its user or password that is not percent-encoded: "
            "write @ as %40, / as %2F, : as %3A, # as %23, % as %25"
        )
    if scheme in {"postgresql", "postgres"}:
        return parsed.set(drivername="postgresql+psycopg")
    if scheme == "sqlite" and parsed.database not in {None, "", ":memory:"}:
        return parsed
    # The URL may hold a password, so the message names its scheme alone.
    raise ValueError(
        f"SANDBOX_STORE_URL ({scheme or 'no URL'}) names no store of ours: use sqlite:////absolute/file "
        "or postgresql://host/database"
    )


def ring(tx: sa.Connection) -> None:
    """Ring the doorbell when `tx` commits. SQLite's is the file itself."""
    if tx.dialect.name == "postgresql":
        tx.execute(sa.text(f"NOTIFY {CHANNEL}"))


def _use_wal(cursor: sqlite3.Cursor, deadline: float) -> None:
    """Let readers and a writer work side by side. The first change to it fails at once where others would wait."""
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def _begin_sqlite(connection: sa.Connection) -> None:
    # IMMEDIATE takes the write lock at once: a read that turns into a write could fail half-way otherwise.
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        raise StoreUnavailable(f"the store does not answer: {_words(error)}; {_REMEDY}") from error
    except DBAPIError as error:
        if error.connection_invalidated or _is_passing(error):
            raise StoreUnavailable(f"the connection to the store broke: {_words(error)}; {_REMEDY}") from error
        raise


_REMEDY = "see that it runs, and SANDBOX_STORE_URL"


def _words(error: SQLAlchemyError) -> str:
    """The driver's own words: SQLAlchemy's add the statement and a link."""
    return " ".join(str(getattr(error, "orig", None) or error).split())


_PASSING = ("25006", "25P03", "08", "53", "57", "58")
"""PostgreSQL's codes for: read-only (a standby, after a failover), idle too long; connection, resources, operator,
system (its appendix A). Trying again later may help, with whoever serves then."""


def _is_passing(error: DBAPIError) -> bool:
    return str(getattr(error.orig, "sqlstate", "") or "").startswith(_PASSING)
