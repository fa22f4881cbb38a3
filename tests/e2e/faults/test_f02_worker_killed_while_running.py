"""F2: the worker is killed while the command runs, and started again: it takes back what it had."""

from __future__ import annotations

import pytest

from tests.e2e.faults.installation import PATIENT, Installation
from tests.e2e.faults.running import Install
from tests.e2e.faults.scripts import ticking_task
from tests.e2e.stack import eventually
from tests.e2e.submitting import TERMINAL

pytestmark = pytest.mark.docker

KILLS = 5


def lines_of(it: Installation, task: str) -> int:
    return it.api.output(task).count("\n")


def test_a_worker_killed_five_times_goes_on_with_the_same_container_and_the_log_has_every_line_once(
    install: Install,
) -> None:
    with install(workers=("w1",), **PATIENT) as it:
        task = it.api.submit(ticking_task(3000, 15.0))
        eventually("it prints", lambda: lines_of(it, task) > 50)
        container = it.api.task(task)["attempts"][0]["container_id"]
        for _ in range(KILLS):
            before = lines_of(it, task)
            it.worker("w1").kill()
            it.worker("w1").start()
            eventually(
                "the log goes on", lambda before=before: lines_of(it, task) > before or it.api.state(task) in TERMINAL
            )
        [found] = it.api.ended(task)
        assert found["state"] == "completed", found["outcome"]
        assert [one["container_id"] for one in found["attempts"]] == [container]
        assert len(found["attempts"]) == 1
