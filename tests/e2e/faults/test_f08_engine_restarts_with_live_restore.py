"""F8: the engine dies and comes back with live-restore on: its sandboxes go on, and their exit codes are kept."""

from __future__ import annotations

import pytest

from tests.e2e.faults.installation import PATIENT
from tests.e2e.faults.running import Install
from tests.e2e.faults.scripts import ticking_task
from tests.e2e.stack import eventually
from tests.e2e.submitting import run_manifest
from tests.servers.engine import Engine

pytestmark = pytest.mark.docker

LINES = 2000
WAITS = """
echo up
until [ -e go ]; do sleep 0.05; done
touch done
exit 7
"""


@pytest.mark.parametrize(
    "kills", [pytest.param(1, id="once"), pytest.param(5, id="five times", marks=pytest.mark.faults_long)]
)
def test_an_engine_killed_under_a_running_task_costs_no_attempt_and_no_line_without_a_gap(
    install: Install, engine: Engine, kills: int
) -> None:
    with install(**PATIENT) as it:
        it.add_worker("w1", engine=engine.environment)
        task = it.api.submit(ticking_task(LINES, 2.0 + 3.0 * kills))
        for _ in range(kills):
            before = it.api.output(task).count("\n")
            eventually("it prints", lambda before=before: it.api.output(task).count("\n") > before + 100)
            engine.kill()
            engine.start(live_restore=True)
        [found] = it.api.ended(task)
        assert found["state"] == "completed", found["outcome"]
        assert len(found["attempts"]) == 1
        # What the engine had read of the command's pipe and not written yet when it died: a partial write a kill.
        gaps = [one for one in it.api.records(task) if one["stream"] == "gap"]
        lines = it.api.output(task).splitlines()
        assert len(gaps) <= 2 * kills, gaps
        assert LINES - sum(line.startswith("tick ") for line in lines) <= 50 * kills, f"{len(gaps)} gaps"


def test_the_exit_code_of_a_command_that_ended_while_the_engine_was_away_is_kept(
    install: Install, engine: Engine
) -> None:
    with install(**PATIENT) as it:
        it.add_worker("w1", engine=engine.environment)
        task = it.api.submit(run_manifest(script=WAITS))
        eventually("it waits", lambda: it.api.output(task) == "up\n")
        workspace = it.hosts["w1"].work_dir / f"{task}.1" / "disk" / "workspace"
        engine.kill()
        (workspace / "go").touch()
        eventually("it has ended", (workspace / "done").exists)
        engine.start(live_restore=True)
        [found] = it.api.ended(task)
        assert (found["state"], found["exit_code"]) == ("failed", 7), found["outcome"]
        assert found["outcome"]["reason"] == "exit_nonzero"
        assert len(found["attempts"]) == 1
