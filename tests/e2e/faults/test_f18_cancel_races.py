"""F18: a cancellation races with the command's end. One of them wins, and every answer agrees with it."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.e2e.faults.installation import PATIENT, Installation
from tests.e2e.faults.running import Install
from tests.e2e.stack import eventually
from tests.e2e.submitting import Json, run_manifest

pytestmark = pytest.mark.docker

AT_ONCE = 4
SPREAD_SECONDS = 0.2
"""Wider than the command's own end: some rounds meet `running`, some `completing`, some the end."""
CALLERS = 10


def race(it: Installation, seed: int) -> str:
    """One round: cancel at about the moment the command ends; return the state that won."""
    rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
    task = it.api.submit(run_manifest(script="sleep 0.4"))
    eventually("it runs", lambda: it.api.state(task) not in ("pending", "staging", "provisioning", "ready"))
    time.sleep(max(0.0, 0.4 + rng.uniform(-SPREAD_SECONDS, SPREAD_SECONDS)))
    answer = it.api.cancel(task, wait=60)
    [found] = it.api.ended(task)
    agrees(answer, found)
    return str(found["state"])


def agrees(answer: httpx.Response, found: Json) -> None:
    """200 says `cancelled` and it is; 409 names the state that it had reached."""
    told = f"{answer.status_code} {answer.text}"
    if answer.status_code == 200:
        assert answer.json()["new_state"] == "cancelled", told
        assert found["state"] == "cancelled", f"{told}, yet it is {found['state']}"
    else:
        assert answer.status_code == 409, told
        assert answer.json()["task_state"] == found["state"], told
        assert found["state"] == "completed", f"{told}: {found['outcome']}"


@pytest.mark.parametrize(
    "rounds", [pytest.param(24, id="24 rounds"), pytest.param(1000, id="1000 rounds", marks=pytest.mark.faults_long)]
)
def test_cancel_and_completion_at_the_same_time_end_in_one_state_that_every_answer_agrees_with(
    install: Install, rounds: int
) -> None:
    with (
        install(store="postgres", broker="redis", workers=("w1",), **PATIENT) as it,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        states = set(pool.map(lambda seed: race(it, seed), range(rounds)))
        assert states <= {"completed", "cancelled"}
        assert "cancelled" in states


def test_ten_cancellations_at_once_are_one(install: Install) -> None:
    with install(broker="redis", apis=2, workers=("w1",), **PATIENT) as it, ThreadPoolExecutor(CALLERS) as pool:
        task = it.api.submit(run_manifest(script="echo up; sleep 600"))
        eventually("it runs", lambda: "up" in it.api.output(task))
        answers = list(pool.map(lambda _: it.api.cancel(task, wait=60), range(CALLERS)))
        [found] = it.api.ended(task)
        assert found["state"] == "cancelled"
        for answer in answers:
            assert answer.status_code in (200, 409), answer.text
        assert any(answer.status_code == 200 for answer in answers)
