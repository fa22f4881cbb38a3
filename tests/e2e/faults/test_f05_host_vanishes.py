"""F5: a host falls silent for longer than its lease and comes back. What it still has to say is refused."""

from __future__ import annotations

import pytest

from tests.e2e.faults.running import Install
from tests.e2e.faults.scripts import ticking_task
from tests.e2e.stack import eventually

pytestmark = pytest.mark.docker

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
