"""F6: the broker goes away, comes back, or comes back empty. A message is only a doorbell."""

from __future__ import annotations

import time

import pytest

from tests.e2e.faults.installation import PATIENT, Installation
from tests.e2e.faults.running import Install
from tests.e2e.faults.scripts import ticking_task
from tests.e2e.stack import eventually

pytestmark = pytest.mark.docker

AWAY_SECONDS = 60.0


def go_through_an_outage(it: Installation, *, empty: bool, away_seconds: float) -> None:
    """Some run, some wait, some are submitted while the broker is away. None of it is lost."""
    running = it.api.submit(ticking_task(400, 8.0))
    eventually("it runs", lambda: "tick 5\n" in it.api.output(running))
    waiting = [it.api.submit(ticking_task(10, 0.2)) for _ in range(3)]
    it.broker.kill()
    before = it.api.output(running)
    submitted = [it.api.submit(ticking_task(10, 0.2)) for _ in range(3)]
    eventually("the running one goes on", lambda: len(it.api.output(running)) > len(before))
    until = time.monotonic() + away_seconds
    eventually("the outage is over", lambda: time.monotonic() > until, away_seconds + 60)
    if empty:
        it.broker.empty()
    it.broker.start()
    for task in it.api.ended(running, *waiting, *submitted):
        assert task["state"] == "completed", task["outcome"]
        assert len(task["attempts"]) == 1


@pytest.mark.parametrize(
    "broker", ["folder", *(pytest.param(one, marks=pytest.mark.faults_long) for one in ("rabbit", "redis"))]
)
def test_a_broker_that_comes_back_empty_costs_no_task(install: Install, broker: str) -> None:
    with install(broker=broker, workers=("w1",), SANDBOX_CONCURRENCY="2", **PATIENT) as it:
        go_through_an_outage(it, empty=True, away_seconds=2.0)


@pytest.mark.faults_long
@pytest.mark.parametrize(
    ("broker", "empty"),
    [("folder", True), ("redis", True), ("redis", False), ("rabbit", True), ("rabbit", False)],
)
def test_a_broker_away_for_a_minute_costs_no_task(install: Install, broker: str, empty: bool) -> None:
    settings = {"SANDBOX_CONCURRENCY": "2", **PATIENT}
    with install(store="postgres", broker=broker, apis=2, workers=("w1", "w2"), **settings) as it:
        go_through_an_outage(it, empty=empty, away_seconds=AWAY_SECONDS)
