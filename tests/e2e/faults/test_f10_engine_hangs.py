"""F10: the engine hangs. Its worker says so and claims nothing; what runs goes on when the engine does."""

from __future__ import annotations

import pytest

from tests.e2e.faults.installation import PATIENT
from tests.e2e.faults.running import Install
from tests.e2e.faults.scripts import ticking_task
from tests.e2e.stack import eventually
from tests.servers.engine import Engine

pytestmark = pytest.mark.docker


def test_a_hanging_engine_is_told_by_its_worker_and_its_tasks_go_on_when_it_does(
    install: Install, engine: Engine
) -> None:
    with install(**PATIENT) as it:
        it.add_worker("w1", engine=engine.environment)
        running = it.api.submit(ticking_task(1000, 10.0))
        eventually("it prints", lambda: "tick 5\n" in it.api.output(running))
        engine.pause()
        try:
            eventually("the worker tells", lambda: "Docker Engine" in (it.api.workers()["w1"]["trouble"] or ""))
            waiting = it.api.submit(ticking_task(10, 0.2))
            assert it.api.state(running) in ("running", "completing")
            assert it.api.get("/health/live")
            assert it.api.state(waiting) == "pending"
            assert "Docker Engine" in it.api.task(waiting)["state_message"]
        finally:
            engine.resume()
        for found in it.api.ended(running, waiting):
            assert found["state"] == "completed", found["outcome"]
            assert len(found["attempts"]) == 1
        assert it.api.workers()["w1"]["trouble"] is None
