"""F23: the engine's events stop coming, and nobody says so. The regular look at each sandbox notices its end."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.e2e.faults.deaf_proxy import DeafProxy
from tests.e2e.faults.installation import PATIENT
from tests.e2e.faults.running import Install
from tests.e2e.faults.scripts import ticking_task
from tests.e2e.stack import eventually

pytestmark = pytest.mark.docker


def test_the_end_of_a_task_is_noticed_although_the_engine_s_events_fell_silent(install: Install) -> None:
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as directory,  # a socket's path must be short
        DeafProxy(Path(directory) / "engine.sock") as proxy,
        install(**PATIENT) as it,
    ):
        it.add_worker("w1", environment=proxy.environment)
        heard = it.api.submit(ticking_task(10, 0.2))
        assert it.api.ended(heard)[0]["state"] == "completed"
        assert proxy.subscriptions > 0
        proxy.deaf = True
        codes = {it.api.submit(ticking_task(50, 1.0, exit_code=code)): code for code in (0, 3)}
        for found in it.api.ended(*codes):
            assert found["exit_code"] == codes[found["id"]], found["outcome"]
            assert found["state"] == ("failed" if found["exit_code"] else "completed")
        eventually("the end of both was swallowed", lambda: proxy.swallowed_bytes > 0)
