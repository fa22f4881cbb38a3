"""F7: the store is away. The API says so, what runs goes on, nobody is lost, and the log is whole afterwards."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.e2e.faults.installation import Installation
from tests.e2e.faults.running import Install
from tests.e2e.faults.scripts import ticking_task
from tests.e2e.stack import eventually

pytestmark = pytest.mark.docker

POSTGRES = pytest.param("postgres", marks=pytest.mark.postgres)
LONG_SECONDS = 30.0
LEASE = {"SANDBOX_LEASE_SECONDS": "8", "SANDBOX_STOP_AFTER_SECONDS": "8"}


def submission_while_away(it: Installation) -> httpx.Response:
    return httpx.post(f"{it.api.urls[0]}/api/v1/tasks", json=ticking_task(10, 0.2), timeout=60)


def go_through_an_outage(it: Installation, seconds: float) -> None:
    tasks = [it.api.submit(ticking_task(800, seconds + 6)) for _ in range(2)]
    for task in tasks:
        eventually("it runs", lambda task=task: "tick 5\n" in it.api.output(task))
    containers = {task: it.api.task(task)["attempts"][0]["container_id"] for task in tasks}
    it.store.stop()
    try:
        until = time.monotonic() + seconds
        if not it.store.url.startswith("sqlite"):  # there a writer waits for 30 s before it gives up
            refused = submission_while_away(it)
            assert refused.status_code == 503, refused.text
            assert int(refused.headers["Retry-After"]) > 0
        eventually("the outage is over", lambda: time.monotonic() > until, seconds + 60)
    finally:
        it.store.start()
    late = it.api.submit(ticking_task(10, 0.2))
    for found in it.api.ended(*tasks, late):
        assert found["state"] == "completed", found["outcome"]
        [only] = found["attempts"]
        assert only["container_id"] == containers.get(found["id"], only["container_id"])


@pytest.mark.parametrize("store", [POSTGRES, pytest.param("sqlite", marks=pytest.mark.faults_long)])
def test_a_store_away_for_less_than_a_lease_costs_no_task_and_no_line(install: Install, store: str) -> None:
    with install(store=store, broker="redis", workers=("w1", "w2"), **LEASE) as it:
        go_through_an_outage(it, 5.0)


@pytest.mark.faults_long
@pytest.mark.parametrize("store", [POSTGRES, "sqlite"])
def test_a_store_away_for_thirty_seconds_costs_no_task_with_the_default_lease(install: Install, store: str) -> None:
    defaults = {"SANDBOX_LEASE_SECONDS": "30", "SANDBOX_STOP_AFTER_SECONDS": "30", "SANDBOX_HEARTBEAT_SECONDS": "5"}
    with install(store=store, broker="redis", apis=2, workers=("w1", "w2"), **defaults) as it:
        go_through_an_outage(it, LONG_SECONDS)
