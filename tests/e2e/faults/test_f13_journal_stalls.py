"""F13: the store takes no writes while a task prints at full rate, and then the task is cancelled."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.faults.installation import PATIENT
from tests.e2e.faults.running import Install
from tests.e2e.stack import eventually
from tests.e2e.submitting import run_manifest

pytestmark = pytest.mark.docker

PRINTS_WITHOUT_END = """
import os
padding, number = b"x" * 16000 + b"\\n", 0
while True:
    number += 1
    os.write(1, b"tick %d\\n" % number + padding)
"""
SHORT_GRACE = {"stop_grace": "1s"}
LIMIT = {"SANDBOX_LOG_MAX_BYTES": str(16 << 20)}


@pytest.mark.parametrize("seconds", [5.0, pytest.param(20.0, marks=pytest.mark.faults_long)])
def test_a_task_that_prints_at_full_rate_into_a_stalled_journal_is_cancelled_in_fact(
    install: Install, seconds: float
) -> None:
    with install(workers=("w1",), **PATIENT, **LIMIT) as it, ThreadPoolExecutor(1) as pool:
        task = it.api.submit(run_manifest(command=["python3", "-c", PRINTS_WITHOUT_END], lifecycle=SHORT_GRACE))
        eventually("it prints", lambda: "tick 5\n" in it.api.output(task))
        it.store.stop()
        try:
            until = time.monotonic() + seconds
            eventually("the stall is half over", lambda: time.monotonic() > until - seconds / 2, seconds + 60)
            cancelling = pool.submit(it.api.cancel, task, wait=60)
            eventually("the stall is over", lambda: time.monotonic() > until, seconds + 60)
        finally:
            it.store.start()
        answer = cancelling.result()
        assert answer.status_code == 200, answer.text
        assert answer.json()["new_state"] == "cancelled"
        [found] = it.api.ended(task)
        assert found["outcome"]["reason"] == "cancelled"
        assert [one["stream"] for one in it.api.records(task)].count("gap") <= 2
