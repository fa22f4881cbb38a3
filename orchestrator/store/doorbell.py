"""Rings when somebody committed to the store: readers sleep until then."""

from __future__ import annotations

import sqlite3
import time
from typing import Protocol

SQLITE_TICK_SECONDS = 0.005
"""`PRAGMA data_version` every 5 ms costs 0.8 % of a core (core-path.md §1), and only while somebody waits."""


class Doorbell(Protocol):
    """Used by one thread at a time. A ring between two waits is not missed."""

    def wait(self, timeout_seconds: float) -> bool:
        """Block until the next commit by any process (true) or until the time is over (false)."""

    def close(self) -> None:
        """Free the connection; idempotent."""


class SqliteDoorbell:
    """The file's own change counter, as SQLite keeps it for each connection."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._seen = self._version()

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def wait(self, timeout_seconds: float) -> bool:
        deadline = time.monotonic() + timeout_seconds
        while (version := self._version()) == self._seen:
            if time.monotonic() >= deadline:
                return False
            time.sleep(SQLITE_TICK_SECONDS)
        self._seen = version
        return True

    def close(self) -> None:
        self._connection.close()


class PostgresDoorbell:
    """LISTEN on the channel that `database.ring` notifies. A broken connection counts as a ring: look again."""

    def __init__(self, conninfo: str, channel: str) -> None:
        import psycopg  # noqa: PLC0415 - an optional dependency: only installations on PostgreSQL have it

        self._psycopg = psycopg
        self._conninfo = conninfo
        self._channel = channel
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None

    def wait(self, timeout_seconds: float) -> bool:
        try:
            if self._connection is None:
                self._connection = self._psycopg.connect(self._conninfo, autocommit=True, connect_timeout=5)
                self._connection.execute(f"LISTEN {self._channel}")
                return True
            return any(True for _ in self._connection.notifies(timeout=timeout_seconds, stop_after=1))
        except self._psycopg.OperationalError:
            self.close()
            time.sleep(min(timeout_seconds, 1.0))
            return True

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
