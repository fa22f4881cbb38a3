"""F20: a cancellation comes between claim and container start. After `cancelled` no container of it starts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.faults.installation import PATIENT, start_all
from tests.e2e.faults.points import BEFORE_RUNNING
from tests.e2e.faults.running import Install
from tests.e2e.faults.scripts import ticking_task

pytestmark = pytest.mark.docker

SLOW_SECONDS = 10
"""Long enough for all to be submitted and found before the first of them begins to run."""


def test_a_task_cancelled_at_each_step_before_its_start_never_has_a_container_that_runs_afterwards(
    install: Install,
) -> None:
    with install(broker="redis", **PATIENT) as it:
        hosts = [
            it.add_worker(
                point, start=False, SANDBOX_CONCURRENCY="1", SANDBOX_TEST_FAULTS=f"sleep:{SLOW_SECONDS}@{point}"
            )
            for point in BEFORE_RUNNING
        ]
        start_all(hosts)
        owners = {task: it.owner_of(task) for task in [it.api.submit(ticking_task(20, 1.0)) for _ in hosts]}
        with ThreadPoolExecutor(len(hosts)) as pool:
            answers = dict(zip(owners, pool.map(lambda task: it.api.cancel(task, wait=60), owners), strict=True))
        for task in it.api.ended(*owners):
            where = f"cancelled while at {owners[task['id']]}"
            assert answers[task["id"]].status_code == 200, f"{where}: {answers[task['id']].text}"
            assert task["state"] == "cancelled", f"{where}: {task['outcome']}"
            assert it.api.output(task["id"]) == "", f"{where}: the command ran"
