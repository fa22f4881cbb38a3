"""F4: the worker is killed after the command's end: log tail, artifacts, conclusion. Adoption finishes the ending."""

from __future__ import annotations

import pytest

from tests.e2e.faults.installation import PATIENT, start_all
from tests.e2e.faults.points import ENDING, kill_at
from tests.e2e.faults.running import Install
from tests.e2e.faults.scripts import ARTIFACT, ticking_task

pytestmark = pytest.mark.docker


def test_a_worker_killed_at_each_step_of_the_ending_finishes_it_with_the_true_exit_code_and_one_artifact(
    install: Install,
) -> None:
    with install(store="postgres", broker="redis", **PATIENT) as it:
        hosts = [it.add_worker(point, start=False, SANDBOX_CONCURRENCY="1", **kill_at(point)) for point in ENDING]
        start_all(hosts)
        codes = {}
        for number in range(len(hosts)):
            code = 7 * (number % 2)
            codes[it.api.submit(ticking_task(50, 0.5, exit_code=code, artifact=True))] = code
        for host in hosts:
            assert host.wait_death() == -9, f"the worker was not killed at {host.name}: {host.said()[-2000:]}"
        start_all(hosts)
        for task in it.api.ended(*codes):
            where = f"killed at {task['worker']}"
            assert task["exit_code"] == codes[task["id"]], f"{where}: {task['outcome']}"
            assert task["state"] == ("failed" if task["exit_code"] else "completed"), where
            assert len(task["attempts"]) == 1, where
            listed = it.api.get(f"/tasks/{task['id']}/artifacts")["artifacts"]
            assert [one["path"] for one in listed] == [ARTIFACT], where
