"""How an agent's task ends when the model API, its limits or its image are against it: why, and whose fault."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import httpx
import pytest

from tests.e2e.agents.agent_tasks import (
    agent_manifest,
    artifact_paths,
    events,
    eventually_told,
    result_of,
    states,
    tool_results,
    wait_for_file,
)
from tests.e2e.agents.model import Model, bash
from tests.e2e.stack import Product, eventually, labelled, processes_with, running_product
from tests.e2e.submitting import Json, ended, run_manifest, submit
from tests.model_api.scenarios import answer, refuse

pytestmark = pytest.mark.docker


def ending_of(api: httpx.Client, manifest: Json) -> tuple[str, Json]:
    task = submit(api, manifest)
    found = ended(api, task)
    assert found["state"] == "failed", found["outcome"]
    assert found["outcome"]["hint"]
    return task, found["outcome"]


@pytest.mark.parametrize(("status", "fault"), [(400, "user"), (404, "user"), (403, "platform")])
def test_a_request_that_the_api_refuses_ends_the_task_with_its_words(
    api: httpx.Client, model: Model, repository: Path, status: int, fault: str
) -> None:
    task, outcome = ending_of(api, agent_manifest(repository, model.plays(refuse(status, "these are its words"))))
    assert (outcome["reason"], outcome["fault"], outcome["exit_code"]) == ("agent_error", fault, 1)
    assert f"status {status}" in outcome["message"]
    if status == 400:  # others the agent puts into words of its own
        assert "these are its words" in outcome["message"]
    assert not events(api, task, "api_retry")


def test_a_key_that_the_api_does_not_take_is_the_platforms_fault(
    api: httpx.Client, model: Model, repository: Path
) -> None:
    task, outcome = ending_of(api, agent_manifest(repository, model.plays(refuse(401, "invalid x-api-key"))))
    assert (outcome["reason"], outcome["fault"]) == ("agent_error", "platform")
    assert "status 403" in outcome["message"]  # the agent has words of its own for the rest
    assert "sandbox doctor" in outcome["hint"]
    assert not events(api, task, "api_retry"), "nothing that the agent could do would help"


def test_an_api_that_stays_overloaded_is_the_platforms_fault(api: httpx.Client, model: Model, repository: Path) -> None:
    prompt, vm = model.plays(refuse(529, "Overloaded")), {"profile": "impatient"}
    _, outcome = ending_of(api, agent_manifest(repository, prompt, vm=vm))
    assert (outcome["reason"], outcome["fault"]) == ("agent_error", "platform")
    assert "status 529" in outcome["message"]


def test_an_api_that_is_overloaded_for_a_while_is_tried_again(
    api: httpx.Client, model: Model, repository: Path
) -> None:
    mark = model.plays(refuse(529, "Overloaded", times=2), answer("Here I am."))
    task = submit(api, agent_manifest(repository, mark))
    found = ended(api, task)
    assert found["state"] == "completed", found["outcome"]
    retries = events(api, task, "api_retry")
    assert [(one["retry"], one["status"]) for one in retries] == [(1, 529), (2, 529)]
    assert all(one["delay_seconds"] > 0 for one in retries)
    assert len(model.asked(mark)) == 3
    assert found["usage"]["agent"]["input_tokens"] == 100


def test_max_turns_ends_the_agent(api: httpx.Client, model: Model, repository: Path) -> None:
    mark = model.plays(*[answer(bash("echo again"))] * 5)
    task, outcome = ending_of(api, agent_manifest(repository, mark, max_turns=2))
    assert (outcome["reason"], outcome["fault"]) == ("agent_max_turns", "user")
    assert len(model.asked(mark)) == 2
    assert result_of(api, task)["subtype"] == "error_max_turns"


def test_the_agent_ends_itself_when_it_has_spent_its_budget(api: httpx.Client, model: Model, repository: Path) -> None:
    dear = answer(bash("echo again"), usage={"input_tokens": 100_000})  # 0.30 USD at the list price
    mark = model.plays(*[dear] * 5)
    task, outcome = ending_of(api, agent_manifest(repository, mark, max_budget_usd=0.5))
    assert (outcome["reason"], outcome["fault"]) == ("agent_budget", "user")
    assert len(model.asked(mark)) == 2
    assert result_of(api, task)["subtype"] == "error_max_budget_usd"


def test_what_the_agents_commands_spend_counts_too_and_the_relay_lets_nothing_through_after_the_budget(
    api: httpx.Client, model: Model, repository: Path
) -> None:
    dear = model.plays(answer("Dear.", usage={"input_tokens": 200_000}))  # 0.60 USD at the list price
    question = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": dear}]}
    ask = f"curl -s -w ' %{{http_code}}' -d '{json.dumps(question)}' http://127.0.0.1:3129/v1/messages"
    mark = model.plays(answer(bash(ask), bash(ask)), answer("never"))
    task, outcome = ending_of(api, agent_manifest(repository, mark, max_budget_usd=0.5))
    assert (outcome["reason"], outcome["fault"]) == ("agent_budget", "user")
    first, second = (str(one["content"]) for one in tool_results(api, task))
    assert '"Dear."' in first
    assert first.endswith(" 200")
    assert second.endswith(" 400")
    assert "budget used up" in second
    assert (len(model.asked(dear)), len(model.asked(mark))) == (1, 1)
    used = api.get(f"/tasks/{task}").json()["usage"]["agent"]
    assert (used["requests"], used["input_tokens"]) == (2, 200_100)
    assert sum(one["cost_usd"] for one in used["models"].values()) > 0.5
    assert result_of(api, task)["total_cost_usd"] < 0.5


def test_a_task_that_is_cancelled_while_a_tool_runs_leaves_nothing_that_runs(
    product: Product, api: httpx.Client, model: Model, repository: Path
) -> None:
    name = f"never-{uuid.uuid4()}"
    task = submit(api, agent_manifest(repository, model.plays(answer(bash(wait_for_file(name))), answer("never"))))
    eventually_told(api, task, "tool_use")
    eventually("the tool runs", lambda: processes_with(name))
    answered = api.delete(f"/tasks/{task}", params={"reason": "enough", "wait": 60})
    assert answered.status_code == 200, answered.text
    assert not processes_with(name)
    assert labelled("ps", "--all", "--filter", f"label=sandbox.task={task}", installation=product.installation()) == []
    found = api.get(f"/tasks/{task}").json()
    assert (found["state"], found["outcome"]["reason"]) == ("cancelled", "cancelled")
    assert (found["exit_code"], found["outcome"]["fault"]) == (143, None)
    assert f"{task}.claude-stream.jsonl" in artifact_paths(api, task)
    assert found["usage"]["agent"]["input_tokens"] == 100


def test_an_image_without_the_agent_is_found_out_before_anything_runs(
    api: httpx.Client, model: Model, repository: Path
) -> None:
    mark = model.plays(answer("never"))
    task, outcome = ending_of(api, agent_manifest(repository, mark, vm={"profile": "basic"}))
    assert outcome["reason"] == "agent_not_found"
    assert 'image "sandbox/basic:latest" (profile "basic")' in outcome["message"]
    assert "agentic-dev" in outcome["hint"]
    assert states(api, task)[-3:] == ["staging", "provisioning", "failed"]
    assert model.asked(mark) == []


def test_without_a_key_for_the_model_a_task_ends_at_staging_and_commands_run_as_ever(
    docker_engine: None, model: Model, repository: Path, tmp_path: Path
) -> None:
    settings = {"SANDBOX_MODEL_API_URL": model.url}
    with (
        running_product(tmp_path / "data", **settings) as product,
        httpx.Client(base_url=f"{product.url}/api/v1") as api,
    ):
        task, outcome = ending_of(api, agent_manifest(repository, "Work."))
        assert (outcome["reason"], outcome["fault"]) == ("secret_unavailable", "platform")
        assert "no key for the model API" in outcome["message"]
        assert "SANDBOX_MODEL_API_KEY_FILE" in outcome["hint"]
        assert states(api, task)[-2:] == ["staging", "failed"]
        assert ended(api, submit(api, run_manifest(command=["true"])))["state"] == "completed"
