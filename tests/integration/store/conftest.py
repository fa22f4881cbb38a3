"""The same tests on both databases: each test begins with a migrated store without rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.artifacts import DirectoryStore
from orchestrator.product import Product
from orchestrator.settings import Settings, load
from orchestrator.store.database import Database
from orchestrator.store.migrate import migrate
from orchestrator.store.tables import metadata
from tests.conftest import missing, postgres_programs
from tests.integration.store.broker import StrictBroker
from tests.integration.store.cluster import Cluster, can_run_as_server, running_cluster

_NUMBERS = itertools.count(1)

KINDS = ("sqlite", pytest.param("postgres", marks=pytest.mark.postgres))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    programs = postgres_programs()
    if programs is None or not can_run_as_server():
        missing("a PostgreSQL server", "install the package postgresql, or run .ci/install")
    assert programs is not None, "missing() does not return"
    with running_cluster(programs) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def sqlite_store(tmp_path_factory: pytest.TempPathFactory) -> Database:
    return _migrated(f"sqlite:///{tmp_path_factory.mktemp('sqlite')}/store.db")


@pytest.fixture(scope="session")
def postgres_store(cluster: Cluster) -> Database:
    cluster.execute("CREATE DATABASE migrated")
    return _migrated(cluster.url("migrated"))


def _migrated(url: str) -> Database:
    database = Database(url)
    migrate(database)
    database.close()
    return database


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def empty_url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A store without tables."""
    if kind == "sqlite":
        return f"sqlite:///{tmp_path}/empty/store.db"
    cluster: Cluster = request.getfixturevalue("cluster")
    name = f"empty{next(_NUMBERS)}"
    cluster.execute(f"CREATE DATABASE {name}")
    return cluster.url(name)


@pytest.fixture
def database(kind: str, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A migrated store without rows; one after the other, since SQLAlchemy learns its statements once an engine."""
    found: Database = request.getfixturevalue(f"{kind}_store")
    with found.write() as tx:
        for table in reversed(metadata.sorted_tables):
            tx.execute(table.delete())
    yield found
    found.close()


@pytest.fixture
def url(database: Database) -> str:
    return database.url.render_as_string(hide_password=False)


@pytest.fixture
def open_database(url: str) -> Iterator[Callable[[], Database]]:
    """Opens the store again, as another process would."""
    opened: list[Database] = []

    def another() -> Database:
        opened.append(Database(url))
        return opened[-1]

    yield another
    for one in opened:
        one.close()


@pytest.fixture
def settings(url: str, tmp_path: Path) -> Settings:
    return load({"SANDBOX_DATA_DIR": str(tmp_path), "SANDBOX_STORE_URL": url})


@pytest.fixture
def broker(database: Database) -> StrictBroker:
    return StrictBroker(database)


@pytest.fixture
def product(settings: Settings, database: Database, broker: StrictBroker, tmp_path: Path) -> Product:
    return Product(settings, database, broker, DirectoryStore(tmp_path / "artifacts"))
