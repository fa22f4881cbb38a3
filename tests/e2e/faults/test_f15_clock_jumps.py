"""F15: the wall clock of a worker, or of the API and reaper, jumps by an hour or a day. Nothing changes its state."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.e2e.faults.clocks import FakeClock
from tests.e2e.faults.installation import PATIENT, Installation
from tests.e2e.faults.running import Install
from tests.e2e.faults.scripts import ticking_task
from tests.e2e.stack import eventually
from tests.e2e.submitting import run_manifest

pytestmark = pytest.mark.docker

JUMPS = ("+1h", "-1h", "+1d", "-1d")
AFTER_A_JUMP_SECONDS = 1.2
"""Several heartbeats and sweeps of the reaper: what a jump could trigger has happened by then."""
BACKOFF = {"retry": {"max_attempts": 2, "on": ["exit_nonzero"], "backoff": "30m"}}


def submit_all(it: Installation) -> dict[str, str]:
    """A task that runs, one that waits for room, one that waits for its retry: task id → state it must keep."""
    retried = it.api.submit(run_manifest(script="exit 1", lifecycle=BACKOFF))
    eventually(
        "its first attempt failed", lambda: it.api.task(retried)["attempts"] and it.api.state(retried) == "pending"
    )
    running = it.api.submit(ticking_task(3000, 120.0, lifecycle={"timeout": "10m", "idle_timeout": "5m"}))
    eventually("it prints", lambda: "tick 5\n" in it.api.output(running))
    waiting = it.api.submit(run_manifest(script="true", lifecycle={"queue_timeout": "30m"}))
    return {retried: "pending", running: "running", waiting: "pending"}


@pytest.mark.parametrize(
    "jumps",
    [pytest.param(("+1d", "-1h"), id="two jumps"), pytest.param(JUMPS, id="all", marks=pytest.mark.faults_long)],
)
def test_no_jump_of_a_clock_changes_a_state_or_costs_a_lease_or_hits_a_timeout(
    install: Install, tmp_path: Path, jumps: tuple[str, ...]
) -> None:
    of_worker, of_api = FakeClock(tmp_path / "worker-clock"), FakeClock(tmp_path / "api-clock")
    # The API starts first: it has the reaper's lock.
    with install(broker="redis", SANDBOX_CONCURRENCY="1", **PATIENT, **of_api.environment) as it:
        it.clocks_agree = False
        it.add_worker("w1", environment=of_worker.environment)
        expected = submit_all(it)
        attempts = {task: len(it.api.task(task)["attempts"]) for task in expected}
        for clock in (of_worker, of_api):
            for jump in (*jumps, "+0"):
                clock.set(jump)
                until = time.monotonic() + AFTER_A_JUMP_SECONDS
                while time.monotonic() < until:
                    assert {task: it.api.state(task) for task in expected} == expected, f"after a jump by {jump}"
                    assert it.api.workers()["w1"]["state"] == "active", f"after a jump by {jump}"
        assert {task: len(it.api.task(task)["attempts"]) for task in expected} == attempts
        for task in reversed(expected):  # the one that waits first: else it gets the room of the one that runs
            it.api.cancel(task, wait=60)
        assert {task["state"] for task in it.api.ended(*expected)} == {"cancelled"}
