"""Stores of many tasks, made by the databases themselves out of one template, on SQLite and on PostgreSQL."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from orchestrator import manifest
from orchestrator.manifest import ManifestPolicy
from orchestrator.product import Product, open_product
from orchestrator.services.submit import submit
from orchestrator.settings import load
from orchestrator.store.tables import tasks
from tests.benchmarks.stack import BenchmarkFailed, noop_manifest
from tests.conftest import postgres_programs
from tests.integration.store.cluster import Cluster, can_run_as_server, running_cluster

KINDS = ("SQLite", "PostgreSQL")
TEMPLATE = "template"
_DURABLE = ("fsync", "full_page_writes", "synchronous_commit", "autovacuum")
"""What the tests' server leaves out and a real one does."""


@dataclass(frozen=True)
class Store:
    """A product on a store of its own; `kind` is the database's name."""

    kind: str
    product: Product

    def copy_template(self, count: int, columns: Mapping[str, Any], table: sa.Table = tasks) -> None:
        """Store `count` copies of the template's only row in `table`; `columns` may speak of `NUMBER`, from 1 on."""
        numbers = sa.select(sa.literal(1).label("number")).cte("numbers", recursive=True)
        numbers = numbers.union_all(sa.select(numbers.c.number + 1).where(numbers.c.number < count))
        owner = table.c.id if table is tasks else table.c.task_id
        filled = [column for column in table.c if column.autoincrement is not True]
        values = [columns.get(column.name, column) for column in filled]
        rows = sa.select(*values).select_from(numbers.join(table, sa.true())).where(owner == TEMPLATE)
        with self.product.database.write() as tx:
            tx.execute(table.insert().from_select([column.name for column in filled], rows))

    def settle(self) -> None:
        """What PostgreSQL does by and by in the background: count what there is, and mark what all may see."""
        if self.kind == "PostgreSQL":
            with self.product.database.session() as connection:
                connection.execute(sa.text("VACUUM ANALYZE"))


NUMBER = sa.literal_column("numbers.number", sa.Integer)
SPREAD = sa.cast((sa.cast(NUMBER, sa.BigInteger) * 2654435761) % 4294967296, sa.String)
"""A text for each number that comes in no order, as ids do."""


@contextmanager
def opened(kind: str) -> Iterator[Store]:
    """An empty store with the template task, gone afterwards. Raises `BenchmarkFailed` without a server."""
    with ExitStack() as undo:
        directory = undo.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True))
        environment = {"SANDBOX_DATA_DIR": directory}
        if kind == "PostgreSQL":
            environment["SANDBOX_STORE_URL"] = undo.enter_context(durable_cluster()).url("postgres")
        product = open_product(load(environment))
        undo.callback(product.close)
        store = Store(kind, product)
        submit(product, manifest_of(TEMPLATE))
        yield store


def manifest_of(task_id: str | None = None, *, memory: str = "256M", profile: str = "basic") -> manifest.Manifest:
    data = noop_manifest("sandbox/basic:latest")
    data["metadata"] = {"id": task_id, "name": "benchmark", "labels": {"team": "none"}}
    data["vm"] |= {"memory": memory, "profile": profile}
    policy = ManifestPolicy(profiles=frozenset({"basic", "agentic-dev"}), allowed_images=("sandbox/*",))
    return manifest.check(data, policy=policy)


@contextmanager
def durable_cluster() -> Iterator[Cluster]:
    """A PostgreSQL server that keeps what it promises, as in production. Raises `BenchmarkFailed` without one."""
    programs: Path | None = postgres_programs()
    if programs is None or not can_run_as_server():
        raise BenchmarkFailed("no PostgreSQL server is installed; install the package postgresql, or run .ci/install")
    with running_cluster(programs) as cluster:
        for setting in _DURABLE:
            cluster.execute(f"ALTER SYSTEM SET {setting} = on")
        cluster.execute("ALTER SYSTEM SET shared_buffers = '256MB'")
        cluster.stop()
        cluster.start()
        yield cluster
