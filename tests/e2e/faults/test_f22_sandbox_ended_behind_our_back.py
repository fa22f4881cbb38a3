"""F22: somebody kills or removes a task's container. That is told as what it is, soon, and may be retried."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.e2e.faults.installation import PATIENT
from tests.e2e.faults.running import Install
from tests.e2e.faults.scripts import ticking_task
from tests.e2e.stack import eventually

pytestmark = pytest.mark.docker

LIFECYCLE = {"timeout": "10m"}
RETRY = {"timeout": "10m", "retry": {"max_attempts": 2, "backoff": "0s"}}


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.strip()


WAYS: dict[str, Callable[[str], object]] = {
    "docker rm --force": lambda container: docker("rm", "--force", container),
    "docker kill": lambda container: docker("kill", container),
    "docker stop": lambda container: docker("stop", "--time", "0", container),
}


def test_a_sandbox_that_others_kill_or_remove_fails_the_platform_and_not_the_task(install: Install) -> None:
    with install(workers=("w1",), SANDBOX_CONCURRENCY="8", SANDBOX_CPU_OVERCOMMIT="8", **PATIENT) as it:
        retried = it.api.submit(ticking_task(200, 20.0, lifecycle=RETRY))
        eventually("it prints", lambda: "tick 5\n" in it.api.output(retried))
        docker("rm", "--force", it.api.task(retried)["attempts"][0]["container_id"])
        tasks = {it.api.submit(ticking_task(6000, 60.0, lifecycle=LIFECYCLE)): way for way in WAYS}
        for task in tasks:
            eventually("it prints", lambda task=task: "tick 5\n" in it.api.output(task))
        containers = {task: it.api.task(task)["attempts"][0]["container_id"] for task in tasks}
        for task, way in tasks.items():
            WAYS[way](containers[task])
        for found in it.api.ended(*tasks):
            way, outcome = tasks[found["id"]], found["outcome"]
            assert (found["state"], outcome["reason"], outcome["fault"]) == ("failed", "sandbox_error", "platform"), way
            assert "tick 5\n" in it.api.output(found["id"]), way
        [again] = it.api.ended(retried)
        assert again["state"] == "completed", again["outcome"]
        assert [one["outcome"]["reason"] for one in again["attempts"]] == ["sandbox_error", "exit_zero"]
