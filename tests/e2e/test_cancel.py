"""Cancellation is a fact when it is reported (contract §4)."""

from __future__ import annotations

import subprocess

import httpx
import pytest

from tests.e2e.stack import Product, eventually
from tests.e2e.submitting import ended, run_manifest, state_of, submit

pytestmark = pytest.mark.docker

STUBBORN = """
trap '' TERM
(trap '' TERM; setsid sleep 600) &
(trap '' TERM; sleep 600) &
echo early > early.txt
echo started
while true; do sleep 1; done
"""


def containers_of(product: Product, task_id: str) -> list[str]:
    argv = ["docker", "ps", "--all", "--quiet", "--filter", f"label=sandbox.task={task_id}"]
    return subprocess.run(argv, capture_output=True, check=True, text=True).stdout.split()


def started(api: httpx.Client, task_id: str) -> bool:
    return "[STDOUT] started" in api.get(f"/tasks/{task_id}/logs").text


def test_a_stubborn_task_is_gone_when_its_state_reads_cancelled_and_its_artifacts_are_there(
    product: Product, api: httpx.Client
) -> None:
    task = submit(
        api, run_manifest(script=STUBBORN, lifecycle={"artifact_patterns": ["early.txt"], "stop_grace": "1s"})
    )
    eventually("the command has started", lambda: started(api, task))

    answer = api.delete(f"/tasks/{task}", params={"reason": "enough", "wait": 60})

    assert answer.status_code == 200, answer.text
    assert containers_of(product, task) == []
    body = answer.json()
    assert body["previous_state"] == "running"
    assert body["new_state"] == "cancelled"
    detail = api.get(f"/tasks/{task}").json()
    assert detail["state"] == "cancelled"
    assert detail["outcome"]["reason"] == "cancelled"
    assert "enough" in detail["outcome"]["message"]
    assert detail["cancel"]["phase"] == "confirmed"
    names = [one["path"] for one in api.get(f"/tasks/{task}/artifacts").json()["artifacts"]]
    assert names == ["early.txt"]


def test_force_skips_the_grace_period(product: Product, api: httpx.Client) -> None:
    task = submit(api, run_manifest(script=STUBBORN, lifecycle={"stop_grace": "10m"}))
    eventually("the command has started", lambda: started(api, task))

    answer = api.delete(f"/tasks/{task}", params={"force": "true", "wait": 60})

    assert answer.json()["new_state"] == "cancelled"
    assert containers_of(product, task) == []


def test_force_shortens_a_grace_period_that_has_begun(api: httpx.Client) -> None:
    task = submit(api, run_manifest(script=STUBBORN, lifecycle={"stop_grace": "10m"}))
    eventually("the command has started", lambda: started(api, task))

    first = api.delete(f"/tasks/{task}", params={"wait": 0})
    second = api.delete(f"/tasks/{task}", params={"force": "true", "wait": 60})

    assert first.status_code == 202
    assert first.json()["cancel"]["phase"] in {"requested", "stopping"}
    assert second.json()["new_state"] == "cancelled"


def test_a_task_that_heeds_term_may_say_its_last_words(api: httpx.Client) -> None:
    script = "trap 'echo last words; exit 0' TERM\necho started\nwhile true; do sleep 0.1; done"
    task = submit(api, run_manifest(script=script))
    eventually("the command has started", lambda: started(api, task))

    assert api.delete(f"/tasks/{task}", params={"wait": 60}).json()["new_state"] == "cancelled"
    assert "[STDOUT] last words" in api.get(f"/tasks/{task}/logs").text


@pytest.mark.parametrize("moment", ["pending", "staging", "provisioning", "ready", "running"])
def test_a_task_cancelled_at_any_early_moment_leaves_no_container(
    product: Product, api: httpx.Client, moment: str
) -> None:
    task = submit(api, run_manifest(script="echo ran; sleep 60"))
    order = ("pending", "staging", "provisioning", "ready", "running")
    eventually(f"{moment} or later", lambda: order.index(state_of(api, task)) >= order.index(moment))

    answer = api.delete(f"/tasks/{task}", params={"wait": 60})

    assert answer.json()["new_state"] == "cancelled"
    assert containers_of(product, task) == []


def test_a_cancelled_parent_takes_its_children_along_when_asked(api: httpx.Client) -> None:
    parent = submit(api, run_manifest(script="sleep 60"))
    child = submit(api, {**run_manifest(script="sleep 60"), "parent_id": parent})

    api.delete(f"/tasks/{parent}", params={"children": "true", "wait": 60})

    assert ended(api, parent)["state"] == "cancelled"
    assert ended(api, child)["state"] == "cancelled"
