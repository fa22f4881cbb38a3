"""F9: the engine dies, or is restarted, with live-restore off: its sandboxes end with it, by nobody's fault."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.faults.installation import PATIENT
from tests.e2e.faults.running import Install
from tests.e2e.faults.scripts import ticking_task
from tests.e2e.stack import eventually
from tests.servers.engine import Engine

pytestmark = pytest.mark.docker

RETRY = {"retry": {"max_attempts": 2, "backoff": "0s"}}
WAYS: dict[str, Callable[[Engine], None]] = {"killed": Engine.kill, "stopped": Engine.stop}


@pytest.mark.parametrize("way", ["killed", pytest.param("stopped", marks=pytest.mark.faults_long)])
def test_an_engine_that_takes_its_sandboxes_along_fails_the_platform_and_the_task_is_retried_if_it_asks_for_that(
    install: Install, engine: Engine, way: str
) -> None:
    engine.kill()
    engine.start(live_restore=False)
    with install(**PATIENT) as it:
        it.add_worker("w1", engine=engine.environment)
        once = it.api.submit(ticking_task(6000, 60.0))
        again = it.api.submit(ticking_task(2000, 20.0, lifecycle=RETRY))
        for task in (once, again):
            eventually("it prints", lambda task=task: "tick 5\n" in it.api.output(task))
        WAYS[way](engine)
        engine.start(live_restore=False)
        lost, retried = it.api.ended(once, again)
        assert (lost["state"], lost["outcome"]["reason"]) == ("failed", "sandbox_error")
        assert lost["outcome"]["fault"] == "platform"
        assert retried["state"] == "completed", retried["outcome"]
        first, second = retried["attempts"]
        assert first["outcome"]["reason"] == "sandbox_error"
        assert first["container_id"] != second["container_id"]
