"""F16: the same doorbell rings again and again, from several senders at once. One claim, the others are dropped."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator.broker.messages import open_broker
from tests.e2e.faults.installation import PATIENT
from tests.e2e.faults.running import Install
from tests.e2e.faults.scripts import ticking_task

pytestmark = pytest.mark.docker

TIMES = 50
THREADS = 4


LONG = pytest.mark.faults_long


@pytest.mark.parametrize("broker", ["folder", pytest.param("redis", marks=LONG), pytest.param("rabbit", marks=LONG)])
def test_a_message_delivered_fifty_times_by_four_threads_starts_one_container(install: Install, broker: str) -> None:
    with install(broker=broker, workers=("w1",), **PATIENT) as it:
        tasks = [it.api.submit(ticking_task(20, 1.0)) for _ in range(3)]
        sender = open_broker(it.broker.url)
        with ThreadPoolExecutor(THREADS) as pool:
            ringing = [
                pool.submit(sender.send_attempt, "w1", task, attempt)
                for _ in range(TIMES)
                for task in tasks
                for attempt in (1, 2)  # the second one is nobody's to take yet
            ]
            for one in ringing:
                one.result()
        sender.close()
        for task in it.api.ended(*tasks):
            assert task["state"] == "completed", task["outcome"]
            assert len(task["attempts"]) == 1
        claims = it.worker("w1").said().count("attempt claimed")
        assert claims == len(tasks)
        errors = [line for line in it.worker("w1").said().splitlines() if " error " in line]
        assert errors == []
