"""F3: the worker is killed while the command runs, and not started again."""

from __future__ import annotations

import subprocess

import pytest

from tests.e2e.faults.running import Install
from tests.e2e.faults.scripts import ticking_task
from tests.e2e.faults.witness import lives
from tests.e2e.stack import eventually

pytestmark = pytest.mark.docker

KILLED = 128 + 9
RETRY = {"retry": {"max_attempts": 2, "backoff": "0s"}}


def test_a_worker_killed_and_gone_costs_the_attempt_and_a_retry_starts_when_the_container_is_stopped(
    install: Install,
) -> None:
    with install(store="postgres", broker="redis", workers=("gone",)) as it:
        final = it.api.submit(ticking_task(6000, 60.0))
        retried = it.api.submit(ticking_task(300, 20.0, lifecycle=RETRY))  # outlives a slow machine's way to the kill
        for task in (final, retried):
            eventually("it prints", lambda task=task: "tick 5\n" in it.api.output(task))
            assert it.owner_of(task) == "gone"
        it.worker("gone").kill()
        it.add_worker("other")
        lost, again = it.api.ended(final, retried)
        assert (lost["state"], again["state"]) == ("failed", "completed")
        assert [one["worker"] for one in lost["attempts"]] == ["gone"]
        assert [one["worker"] for one in again["attempts"]] == ["gone", "other"]
        for task in (lost, again):
            outcome = task["attempts"][0]["outcome"]
            assert (outcome["reason"], outcome["fault"]) == ("worker_lost", "platform")
        it.worker("gone").start()  # its return removes what the keeper stopped
        seen = [life for life in lives(it.witnesses[0].events(it.id)) if life.worker == "gone"]
        assert {life.task_id: life.exit_code for life in seen} == dict.fromkeys((final, retried), KILLED)


@pytest.mark.faults_long
def test_without_a_worker_the_keeper_stops_the_container_and_no_process_of_it_is_left(install: Install) -> None:
    with install(workers=("only",)) as it:
        task = it.api.submit(ticking_task(6000, 60.0))
        eventually("it prints", lambda: "tick 5\n" in it.api.output(task))
        container = it.api.task(task)["attempts"][0]["container_id"]
        it.worker("only").kill()

        def running() -> bool:
            argv = ["docker", "inspect", "--format", "{{.State.Running}}", container]
            return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip() == "true"

        eventually("the keeper stops it", lambda: not running())
        assert it.api.reached(task, "failed")["outcome"]["reason"] == "worker_lost"
