"""Start an installation for one test; when the test's block ends well, judge it; leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.faults.consistency import assert_consistent
from tests.e2e.faults.installation import Installation, start_all
from tests.e2e.faults.services import PostgresStore, SqliteStore, Store, running_broker
from tests.integration.store.cluster import Cluster
from tests.servers.engine import Engine

Install = Callable[..., AbstractContextManager[Installation]]
"""`install(store="sqlite", broker="folder", apis=1, workers=(), **settings)`."""


@contextmanager
def unjudged(
    directory: Path,
    cluster: Callable[[], Cluster],
    *,
    store: str = "sqlite",
    broker: str = "folder",
    apis: int = 1,
    workers: tuple[str, ...] = (),
    engine: Engine | None = None,
    **settings: str,
) -> Iterator[Installation]:
    """An installation with its API processes and workers running. `settings` are SANDBOX_… for all of them.

    `workers` use `engine` if it is given; those added later may be given another.
    """
    directory.mkdir(parents=True, exist_ok=True)
    truth: Store = PostgresStore(cluster()) if store == "postgres" else SqliteStore(directory / "store")
    with running_broker(broker, directory) as doorbells:
        installation = Installation(directory, truth, doorbells, settings)
        try:
            installation.add_witness()
            start_all([installation.add_api(start=False) for _ in range(apis)])
            assert installation.id, "read now, because the store may be away when it is needed"
            installation.add_workers(*workers, engine=engine.environment if engine else None)
            yield installation
        finally:
            installation.close()


@contextmanager
def running(directory: Path, cluster: Callable[[], Cluster], **options: Any) -> Iterator[Installation]:
    """As `unjudged`; when the block ends well, the installation is judged."""
    with unjudged(directory, cluster, **options) as installation:
        yield installation
        assert_consistent(installation)
