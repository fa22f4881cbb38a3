"""The worker's health check: a fresh heartbeat in the store and no trouble."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator import clock, settings
from orchestrator.models import Overcommit, Resources, Worker, WorkerState
from orchestrator.product import open_product
from orchestrator.store import workers as rows
from workers.probe import worker_trouble


@pytest.fixture
def in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> settings.Settings:
    monkeypatch.setenv("SANDBOX_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SANDBOX_WORKER_NAME", "build-1")
    return settings.load()


def store_worker(in_force: settings.Settings, *, seconds_ago: float = 0, trouble: str | None = None) -> None:
    at = clock.now() - timedelta(seconds=seconds_ago)
    worker = Worker(
        name="build-1",
        state=WorkerState.ACTIVE,
        slots=1,
        host=Resources(1, 1 << 30, 1 << 30),
        overcommit=Overcommit(1, 1, 1),
        profiles=("basic",),
        network_modes=("isolated",),
        agents=("run",),
        trouble=trouble,
        heartbeat=0,
        heartbeat_at=at,
        registered_at=at,
    )
    product = open_product(in_force)
    with product.database.write() as tx:
        rows.register(tx, worker)
    product.close()


def test_a_worker_that_never_registered_is_not_healthy(in_force: settings.Settings) -> None:
    open_product(in_force).close()
    assert worker_trouble() == "worker build-1 is not registered; see its log"


def test_a_worker_with_a_fresh_heartbeat_is_healthy(in_force: settings.Settings) -> None:
    store_worker(in_force)
    assert worker_trouble() is None


def test_a_heartbeat_older_than_a_lease_is_told_with_its_age(in_force: settings.Settings) -> None:
    store_worker(in_force, seconds_ago=90)
    assert "last heartbeat 90 s ago" in str(worker_trouble())


def test_what_the_worker_reports_of_its_engine_is_passed_on(in_force: settings.Settings) -> None:
    store_worker(in_force, trouble="the Docker Engine does not answer")
    assert worker_trouble() == "the Docker Engine does not answer"
