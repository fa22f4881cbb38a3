"""F5: a host falls silent for longer than its lease and comes back. What it still has to say is refused."""

from __future__ import annotations

import pytest

from tests.e2e.faults.installation import start_all
from tests.e2e.faults.running import Install
from tests.e2e.faults.scripts import ticking_task
from tests.e2e.stack import eventually

pytestmark = pytest.mark.docker

BEFORE_THE_START = ("sandbox_created", "output_held", "start_due")
RETRY = {"retry": {"max_attempts": 2, "backoff": "0s"}}


def test_a_paused_worker_that_returns_after_its_lease_writes_nothing_and_destroys_its_container(
    install: Install,
) -> None:
    with install(store="postgres", broker="redis", workers=("w1", "w2")) as it:
        task = it.api.submit(ticking_task(240, 12.0, lifecycle=RETRY))
        eventually("it prints", lambda: "tick 5\n" in it.api.output(task))
        silent = it.owner_of(task)
        [other] = {"w1", "w2"} - {silent}
        it.worker(silent).pause()
        eventually("another host has it", lambda: it.owner_of(task) == other)
        first = it.api.output(task, 1)
        eventually("the retry prints", lambda: "tick 5\n" in it.api.output(task, 2))
        it.worker(silent).resume()
        eventually("it is back", lambda: it.api.workers()[silent]["state"] == "active")
        [found] = it.api.ended(task)
        assert found["state"] == "completed", found["outcome"]
        assert [one["worker"] for one in found["attempts"]] == [silent, other]
        # What the keeper had spooled before it stopped the container may be added; the attempt's end stays.
        assert it.api.output(task, 1).startswith(first)
        assert found["attempts"][0]["outcome"]["reason"] == "worker_lost"


def test_a_worker_paused_before_it_starts_a_container_starts_none_when_the_task_runs_elsewhere(
    install: Install,
) -> None:
    """The judge of I3 looks at the containers: even one that waits at its gate must not start beside the other.

    Each sleeps long enough for all of them to be paused in it; while they are, it goes by.
    """
    with install(store="postgres", broker="redis") as it:
        silent = [
            it.add_worker(point, start=False, SANDBOX_CONCURRENCY="1", SANDBOX_TEST_FAULTS=f"sleep:20@{point}")
            for point in BEFORE_THE_START
        ]
        start_all(silent)
        tasks = [it.api.submit(ticking_task(240, 12.0)) for _ in silent]
        for part in silent:
            eventually(
                f"it is at {part.name}",
                lambda part=part: "fault point reached" in part.said(),
            )
            part.pause()
        it.add_worker("other")
        for task in tasks:
            eventually("another host has it", lambda task=task: it.owner_of(task) == "other")
            eventually("it prints there", lambda task=task: "tick 5\n" in it.api.output(task, 2))
        for part in silent:
            part.resume()
        eventually("they are back", lambda: all(one["state"] == "active" for one in it.api.workers().values()))
        for found in it.api.ended(*tasks):
            assert found["state"] == "completed", found["outcome"]
            assert [one["worker"] for one in found["attempts"]][1:] == ["other"]
