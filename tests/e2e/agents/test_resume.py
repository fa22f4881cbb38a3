"""A new task goes on from what an agent left: its conversation and its workspace."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.e2e.agents.agent_tasks import agent_manifest, artifact, result_of, sandbox, tool_results
from tests.e2e.agents.model import Model, bash, words
from tests.e2e.stack import Product
from tests.e2e.submitting import ended, submit
from tests.integration.sandbox.repositories import git, head
from tests.model_api.scenarios import answer, refuse

pytestmark = pytest.mark.docker


def test_a_kept_session_goes_on_with_its_conversation_workspace_and_first_commit(
    product: Product, api: httpx.Client, model: Model, repository: Path, tmp_path: Path
) -> None:
    first_mark = model.plays(answer("I begin.", bash("echo first > made.txt")), answer("The first part is done."))
    first = submit(api, agent_manifest(repository, f"Begin. {first_mark}", lifecycle={"keep_session": True}))
    left = ended(api, first)
    assert left["state"] == "completed", left["outcome"]
    assert left["attempts"][0]["session"]["resumable"]

    second_mark = model.plays(answer(bash("cat made.txt; echo second >> made.txt")), answer("And the second."))
    resumed = sandbox(product, "task", "resume", first, f"Go on. {second_mark}", "--wait", "--format", "json")
    assert resumed.returncode == 0, resumed.stderr
    [second] = [one["task_id"] for one in api.get("/tasks", params={"parent_id": first}).json()["tasks"]]
    found = api.get(f"/tasks/{second}").json()
    assert (found["state"], found["resumed_from"], found["parent_id"]) == ("completed", first, first)

    heard = words(model.asked(second_mark)[0].messages)
    assert all(part in heard for part in (f"Begin. {first_mark}", "I begin.", "The first part is done.", "Go on."))
    [result] = tool_results(api, second)
    assert result["content"] == "first"
    git(tmp_path, "clone", "--quiet", str(repository), str(tmp_path / "clone"))
    git(tmp_path / "clone", "apply", "-", stdin=artifact(api, second, f"{second}.patch"))
    assert (tmp_path / "clone" / "made.txt").read_text() == "first\nsecond\n"
    assert found["attempts"][0]["commit"] == head(repository)
    assert artifact(api, second, f"{second}.result.md").decode().strip() == "And the second."

    used, total = found["usage"]["agent"], result_of(api, second)["total_cost_usd"]
    assert (used["requests"], used["input_tokens"]) == (2, 200)
    assert used["cost_usd"] == pytest.approx(total - left["usage"]["agent"]["cost_usd"], abs=1e-6)


def test_a_preserved_task_goes_on_from_its_failure(api: httpx.Client, model: Model, repository: Path) -> None:
    first_mark = model.plays(answer("I begin.", bash("echo half > made.txt")), refuse(400, "too much at once"))
    first = submit(api, agent_manifest(repository, first_mark, lifecycle={"failure_action": "preserve"}))
    left = ended(api, first)
    try:
        assert (left["state"], left["outcome"]["reason"]) == ("failed_preserved", "agent_error")
        second_mark = model.plays(answer(bash("cat made.txt")), answer("Now it is whole."))
        resumed = api.post(f"/tasks/{first}/resume", json={"prompt": second_mark})
        assert resumed.status_code == 202, resumed.text
        second = resumed.json()["task_id"]
        found = ended(api, second)
        assert found["state"] == "completed", found["outcome"]
        heard = words(model.asked(second_mark)[0].messages)
        assert first_mark in heard
        assert "I begin." in heard
        [result] = tool_results(api, second)
        assert result["content"] == "half"
    finally:
        removed = api.delete(f"/tasks/{first}/data")
    assert removed.status_code == 204, removed.text
    refused = api.post(f"/tasks/{first}/resume", json={})
    assert (refused.status_code, refused.json()["error"]) == (409, "session_not_kept")


def test_what_kept_no_session_or_still_runs_or_never_had_one_is_not_gone_on_from(
    api: httpx.Client, model: Model, repository: Path
) -> None:
    task = submit(api, agent_manifest(repository, model.plays(answer("Done."))))
    early = api.post(f"/tasks/{task}/resume", json={})
    assert (early.status_code, early.json()["error"]) == (409, "session_not_kept")
    assert "only what has ended" in early.json()["message"]
    ended(api, task)
    refused = api.post(f"/tasks/{task}/resume", json={"prompt": "Go on."})
    assert (refused.status_code, refused.json()["error"]) == (409, "session_not_kept")
    assert "lifecycle.keep_session" in refused.json()["message"]
