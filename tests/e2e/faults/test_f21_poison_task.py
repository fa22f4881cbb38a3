"""F21: a task kills its worker each time it is taken. It fails after a few times; the host's other tasks go on."""

from __future__ import annotations

import pytest

from tests.e2e.faults.installation import PATIENT
from tests.e2e.faults.running import Install
from tests.e2e.faults.scripts import ticking_task
from tests.e2e.stack import eventually
from tests.e2e.submitting import TERMINAL

pytestmark = pytest.mark.docker

POISON = {"SANDBOX_TEST_FAULTS": "kill@workspace_made*always"}
MOST_ATTEMPTS = 4
"""Three that do not count, and the one that the manifest allows."""


@pytest.mark.faults_long
def test_a_task_that_kills_its_worker_each_time_fails_and_its_neighbour_is_adopted_each_time(install: Install) -> None:
    with install(workers=("w1",), **PATIENT, SANDBOX_ADOPT_SECONDS="120") as it:
        neighbour = it.api.submit(ticking_task(3000, 30.0))
        eventually("it runs", lambda: "tick 5\n" in it.api.output(neighbour))
        worker = it.worker("w1")
        worker.stop()
        poison = it.api.submit(ticking_task(10, 0.2))
        deaths = 0
        while it.api.state(poison) not in TERMINAL:
            worker.start(wait=False, **POISON)
            eventually("poison works, or is no more", lambda: not worker.running or it.api.state(poison) in TERMINAL)
            deaths += not worker.running
        assert 1 < deaths <= MOST_ATTEMPTS
        worker.kill()
        worker.start()
        [found] = it.api.ended(poison)
        assert (found["state"], found["outcome"]["reason"]) == ("failed", "worker_lost")
        assert len(found["attempts"]) == deaths
        [whole] = it.api.ended(neighbour)
        assert (whole["state"], len(whole["attempts"])) == ("completed", 1), whole["outcome"]
