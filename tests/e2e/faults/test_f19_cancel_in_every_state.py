"""F19: a task is cancelled in every state, also while its image is pulled. Then nothing of it is left or starts."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.faults.installation import PATIENT, Installation, start_all
from tests.e2e.faults.running import Install
from tests.e2e.faults.scripts import ticking_task
from tests.e2e.faults.witness import lives
from tests.e2e.stack import eventually
from tests.servers.registry import Registry

pytestmark = pytest.mark.docker

POINT_OF = {"staging": "claimed", "provisioning": "image_ready", "ready": "sandbox_verified", "completing": "ended"}
"""Where a worker is held up, so that its task is seen in a state."""
STATES = (*POINT_OF, "running")
NAME_OF = {state: f"{number}-{state}" for number, state in enumerate(STATES)}
"""Of the worker for each. Of equal ones placement takes the first by name: the last task gets the last, `running`."""
SLOW_SECONDS = 10
"""Long enough for all to be submitted and found before the first of them is over."""


def containers_of(it: Installation, task: str) -> list[str]:
    return [life.container for life in lives(it.witnesses[0].events(it.id)) if life.task_id == task]


@pytest.mark.faults_long
def test_a_pending_task_is_cancelled_at_once(install: Install) -> None:
    with install(**PATIENT) as it:
        task = it.api.submit(ticking_task(10, 0.2))
        answer = it.api.cancel(task, wait=0)
        assert (answer.status_code, answer.json()["new_state"]) == (200, "cancelled")
        it.add_worker("w1")
        later = it.api.submit(ticking_task(10, 0.2))
        assert it.api.ended(later)[0]["state"] == "completed"
        assert containers_of(it, task) == []


def test_a_task_cancelled_in_each_state_on_a_worker_reads_cancelled_and_its_container_is_gone(install: Install) -> None:
    with install(broker="redis", **PATIENT) as it:
        hosts = {
            state: it.add_worker(
                NAME_OF[state],
                start=False,
                SANDBOX_CONCURRENCY="1",
                SANDBOX_TEST_FAULTS=f"sleep:{SLOW_SECONDS}@{POINT_OF[state]}" if state in POINT_OF else "",
            )
            for state in STATES
        }
        start_all(list(hosts.values()))
        tasks = {it.owner_of(task): task for task in [it.api.submit(ticking_task(20, 0.5)) for _ in STATES[:-1]]}
        tasks |= {it.owner_of(task): task for task in [it.api.submit(ticking_task(6000, 60.0))]}

        def cancelled_in(state: str) -> None:
            task = tasks[NAME_OF[state]]
            it.api.reached(task, state)
            if state == "running":  # it is said before the command begins
                eventually("it prints", lambda: "tick 5\n" in it.api.output(task))
            answer = it.api.cancel(task, wait=60)
            assert answer.status_code == 200, f"{state}: {answer.text}"
            assert (answer.json()["previous_state"], answer.json()["new_state"]) == (state, "cancelled")

        with ThreadPoolExecutor(len(STATES)) as pool:
            list(pool.map(cancelled_in, STATES))
        for found in it.api.ended(*tasks.values()):
            assert found["outcome"]["reason"] == "cancelled"
            ran = found["worker"] in (NAME_OF["running"], NAME_OF["completing"])
            assert bool(it.api.output(found["id"])) == ran


def test_a_pull_is_given_up_when_its_task_is_cancelled_and_no_container_ever_is(
    install: Install, tmp_path: Path
) -> None:
    profiles = tmp_path / "profiles.yaml"
    with Registry(pause_seconds=0.05, piece_bytes=512).running() as registry:
        registry.add_small("slow:1", "it takes minutes")
        image = f"{registry.host}/slow:1"
        profiles.write_text(json.dumps({"basic": {"allowed_images": [image]}}))
        with install(workers=("w1",), SANDBOX_PROFILES=str(profiles), **PATIENT) as it:
            manifest = ticking_task(10, 0.2)
            manifest["run"]["image"] = image
            task = it.api.submit(manifest)
            eventually("the layer is on its way", registry.begun.is_set)
            assert it.api.state(task) == "provisioning"
            answer = it.api.cancel(task, wait=60)
            assert (answer.status_code, answer.json()["new_state"]) == (200, "cancelled"), answer.text
            eventually("the engine dropped the download", registry.dropped.is_set)
            assert containers_of(it, task) == []
