"""F11: the API is killed and restarted while logs are followed under load. A reader resumes: nothing lost or twice."""

from __future__ import annotations

import pytest

from tests.e2e.faults.following import Follower
from tests.e2e.faults.installation import PATIENT
from tests.e2e.faults.running import Install
from tests.e2e.faults.scripts import ticking_task
from tests.e2e.stack import eventually

pytestmark = pytest.mark.docker

LINES = 3000
TASKS = 3


@pytest.mark.parametrize(
    ("apis", "restarts"), [(1, 3), pytest.param(2, 8, marks=pytest.mark.faults_long)], ids=["one API", "two APIs"]
)
def test_a_log_followed_across_restarts_of_the_api_is_what_the_task_printed_byte_for_byte(
    install: Install, apis: int, restarts: int
) -> None:
    with install(apis=apis, workers=("w1",), **PATIENT) as it:
        tasks = [it.api.submit(ticking_task(LINES, 3.0 * restarts)) for _ in range(TASKS)]
        followers = [Follower(it.api.urls, task) for task in tasks]
        lived = dict.fromkeys(tasks, 0)
        for number in range(restarts):
            seen = [len(one.reader.events) for one in followers]
            eventually(
                "every reader goes on",
                lambda seen=seen: all(
                    one.ended or len(one.reader.events) > before + 20
                    for one, before in zip(followers, seen, strict=True)
                ),
            )
            api = it.apis[number % apis]
            if number % 2:
                api.stop()
            else:
                api.kill()
            api.start()
            for task, follower in zip(tasks, followers, strict=True):
                lived[task] += not follower.ended
        for task, follower in zip(tasks, followers, strict=True):
            follower.wait_end()
            # How many of the restarts fall into a task's time, the machine decides.
            assert follower.connections > max(1, lived[task] / apis)
            printed = it.api.output(task)
            assert follower.reader.data("stdout") == printed
            assert printed.endswith(f"tick {LINES}\n")
            cursors = [event.cursor for event in follower.reader.events if event.name != "end"]
            assert cursors == sorted(set(cursors))
