"""The servers of an installation: a store and a broker, each of its own for one test."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from tests.integration.store.cluster import Cluster
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer

_NUMBERS = itertools.count(1)


class Store(Protocol):
    """Where the truth lies. `stop` takes it away from everybody until `start`."""

    @property
    def url(self) -> str: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Broker(Protocol):
    """What carries the doorbells. `empty` (only while it does not run) makes it forget everything."""

    @property
    def url(self) -> str: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...

    def empty(self) -> None: ...


class SqliteStore:
    """A file. It is "stopped" by a transaction that lets no other writer in."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._file = directory / "store.db"
        self._lock: sqlite3.Connection | None = None

    @property
    def url(self) -> str:
        return f"sqlite:///{self._file}"

    def stop(self) -> None:
        self._lock = sqlite3.connect(self._file, isolation_level=None, timeout=60)
        self._lock.execute("BEGIN EXCLUSIVE")

    def start(self) -> None:
        if self._lock is not None:
            self._lock.execute("ROLLBACK")
            self._lock.close()
            self._lock = None


class PostgresStore:
    """A database of its own in the session's server; what it committed survives the server's crash."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._name = f"faults{next(_NUMBERS)}"
        self._stopped = False
        cluster.execute(f"CREATE DATABASE {self._name}")
        # The test cluster acknowledges commits it has not written: a killed server would lose them.
        cluster.execute(f"ALTER DATABASE {self._name} SET synchronous_commit = on")

    @property
    def url(self) -> str:
        return self._cluster.url(self._name)

    def stop(self) -> None:
        """As a crash does: no session says goodbye."""
        self._cluster.stop("immediate")
        self._stopped = True

    def start(self) -> None:
        if self._stopped:
            self._cluster.start()
            self._stopped = False


class FolderBroker:
    """The embedded broker has no process: what can happen to it is that its directory is removed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def url(self) -> str:
        return f"sandboxfs://{quote(str(self._directory))}"

    def start(self) -> None:
        """Nothing to do: whoever needs the directory makes it again."""

    def stop(self) -> None:
        self.kill()

    def kill(self) -> None:
        """Remove the directory at one stroke, with all messages."""
        aside = self._directory.with_name(f"{self._directory.name}.{uuid.uuid4().hex}")
        with suppress(FileNotFoundError):  # nobody needed it yet
            self._directory.rename(aside)
            shutil.rmtree(aside)

    def empty(self) -> None:
        """Nothing to do: it came back empty."""


@contextmanager
def running_broker(kind: str, directory: Path) -> Iterator[Broker]:
    """A broker of this kind: `folder`, `redis` or `rabbit`."""
    if kind == "folder":
        yield FolderBroker(directory / "broker")
        return
    with RedisServer(directory / "redis") if kind == "redis" else RabbitServer(directory / "rabbit") as server:
        yield server
