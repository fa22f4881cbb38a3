"""F1: the worker is killed at a step of the recipe before the command runs. The attempt is undone and not counted.

Every host dies at a point of its own, all at the same time: the points do not influence each other.
"""

from __future__ import annotations

import pytest

from tests.e2e.faults.installation import PATIENT, Installation, start_all
from tests.e2e.faults.points import BEFORE_RUNNING, GATE_ANNOUNCED, kill_at
from tests.e2e.faults.running import Install
from tests.e2e.faults.scripts import ticking_task
from tests.e2e.stack import eventually

pytestmark = pytest.mark.docker


def killed_at_every_point(it: Installation) -> dict[str, str]:
    """A host for each point, each killed there with a task of its own: task id → point."""
    hosts = [it.add_worker(point, start=False, SANDBOX_CONCURRENCY="1", **kill_at(point)) for point in BEFORE_RUNNING]
    start_all(hosts)
    for _ in hosts:
        it.api.submit(ticking_task(20, 0.5))
    owners = {task: it.owner_of(task) for task in it.api.accepted}
    for host in hosts:
        assert host.wait_death() == -9, f"the worker was not killed at {host.name}: {host.said()[-2000:]}"
    assert sorted(owners.values()) == sorted(BEFORE_RUNNING)
    return owners


def assert_done_without_counting(it: Installation, point_of: dict[str, str]) -> None:
    """One attempt is allowed: what was lost at a point did not count."""
    for task in it.api.ended(*point_of):
        point = point_of[task["id"]]
        assert task["state"] == "completed", f"killed at {point}: {task['outcome']}"
        lost = task["attempts"][:-1]
        assert all(one["outcome"]["reason"] == "worker_lost" for one in lost), f"killed at {point}: {lost}"
        assert len(task["attempts"]) == 2, f"killed at {point}: {task['attempts']}"
        assert [bool(one["started_at"]) for one in task["attempts"]] == [False, True], f"killed at {point}"


def test_a_worker_killed_at_each_step_and_started_again_undoes_it_and_the_task_is_placed_again(
    install: Install,
) -> None:
    with install(store="postgres", broker="redis", **PATIENT) as it:
        point_of = killed_at_every_point(it)
        start_all([it.worker(point) for point in BEFORE_RUNNING])
        assert_done_without_counting(it, point_of)


@pytest.mark.faults_long
def test_a_worker_killed_at_each_step_and_not_started_again_loses_its_task_to_another(install: Install) -> None:
    with install(store="postgres", broker="redis") as it:
        point_of = killed_at_every_point(it)
        it.add_worker("healthy", SANDBOX_CONCURRENCY="4")
        # Nobody but its own host can tell that the gate of this one was still closed: the state says `running`.
        [announced] = [task for task, point in point_of.items() if point == GATE_ANNOUNCED]
        del point_of[announced]
        assert_done_without_counting(it, point_of)
        assert {one["attempts"][-1]["worker"] for one in it.api.ended(*point_of)} == {"healthy"}
        [ran] = it.api.ended(announced)
        assert (ran["state"], ran["outcome"]["reason"]) == ("failed", "worker_lost")
        eventually("the dead are known as such", lambda: it.api.workers()["claimed"]["state"] == "lost")
