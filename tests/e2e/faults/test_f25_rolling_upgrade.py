"""F25: every process of an installation is ended by TERM and started again under load, one after the other."""

from __future__ import annotations

import pytest

from tests.e2e.faults.installation import PATIENT
from tests.e2e.faults.running import Install
from tests.e2e.faults.scripts import FIRST_LINE, ticking_task

pytestmark = pytest.mark.docker

ADOPT = {"SANDBOX_ADOPT_SECONDS": "120"}


@pytest.mark.parametrize(
    "tasks",
    [
        pytest.param(10, id="10 tasks", marks=pytest.mark.faults_long),
        pytest.param(30, id="30 tasks", marks=pytest.mark.faults_long),
    ],
)
def test_a_rolling_upgrade_under_load_loses_no_task_and_runs_none_again(install: Install, tasks: int) -> None:
    with install(store="postgres", broker="redis", apis=2, workers=("w1", "w2"), **PATIENT, **ADOPT) as it:
        parts = [it.worker("w1"), it.apis[0], it.worker("w2"), it.apis[1]]
        share = -(-tasks // (len(parts) + 1))
        accepted: list[str] = []
        for part in (None, *parts):
            if part is not None:
                part.stop()
                part.start()
            accepted += [it.api.submit(ticking_task(200, 4.0)) for _ in range(min(share, tasks - len(accepted)))]
        assert len(accepted) == tasks
        for found in it.api.ended(*accepted):
            assert found["state"] == "completed", found["outcome"]
            assert len([one for one in found["attempts"] if one["started_at"]]) == 1, found["attempts"]
            assert it.api.output(found["id"]).count(FIRST_LINE) == 1
