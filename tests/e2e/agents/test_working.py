"""An agent works: with its tools, in its sandbox; what it does is told, what it made comes back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.e2e.agents.agent_tasks import (
    agent_manifest,
    artifact,
    artifact_paths,
    events,
    eventually_told,
    result_of,
    sandbox,
    states,
    stream,
    tool_results,
    wait_for_file,
    workspace,
)
from tests.e2e.agents.model import Model, bash
from tests.e2e.stack import Product
from tests.e2e.submitting import Json, ended, raw_output, state_of, submit
from tests.integration.sandbox.repositories import git, head, make_repository
from tests.model_api.scenarios import answer, tool
from workers.images.agent_cli import locked

pytestmark = pytest.mark.docker

(VERSION,) = {one.version for one in locked().values()}
MODEL = "claude-sonnet-4-5-20250929"
WORK = (
    answer(
        "Let me see.",
        tool("Write", file_path="/workspace/notes.txt", content="made by the agent\n"),
        bash("sed -i s/two/three/ README.md; echo done"),
    ),
    answer("It is *done*."),
)


@dataclass(frozen=True)
class Worked:
    """A task that `WORK` was done in, with nothing but defaults. `mark` is in its prompt."""

    task: str
    mark: str
    repository: Path
    found: Json


@pytest.fixture(scope="module")
def worked(product: Product, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Worked:
    repository = make_repository(tmp_path_factory.mktemp("worked") / "repository")
    mark = model.plays(*WORK)
    with httpx.Client(base_url=f"{product.url}/api/v1", timeout=60) as api:
        task = submit(api, agent_manifest(repository, f"Write notes. {mark}"))
        return Worked(task, mark, repository, ended(api, task))


def test_an_agent_that_works_with_its_tools_completes(api: httpx.Client, worked: Worked) -> None:
    assert worked.found["state"] == "completed", worked.found["outcome"]
    assert worked.found["outcome"]["reason"] == "exit_zero"
    assert states(api, worked.task)[-6:] == ["staging", "provisioning", "ready", "running", "completing", "completed"]
    [attempt] = worked.found["attempts"]
    assert (attempt["agent_version"], attempt["commit"]) == (VERSION, head(worked.repository))


def test_it_leaves_a_patch_its_answer_and_its_stream(api: httpx.Client, worked: Worked, tmp_path: Path) -> None:
    task = worked.task
    assert artifact_paths(api, task) == {f"{task}.{end}" for end in ("patch", "result.md", "claude-stream.jsonl")}
    assert artifact(api, task, f"{task}.result.md").decode().strip() == "It is *done*."
    git(tmp_path, "clone", "--quiet", str(worked.repository), str(tmp_path / "clone"))
    git(tmp_path / "clone", "apply", "-", stdin=artifact(api, task, f"{task}.patch"))
    assert (tmp_path / "clone" / "notes.txt").read_text() == "made by the agent\n"
    assert (tmp_path / "clone" / "README.md").read_text() == "three\n"
    assert raw_output(api, task) == artifact(api, task, f"{task}.claude-stream.jsonl")


def test_what_it_used_is_counted(api: httpx.Client, worked: Worked, model: Model, model_key: str) -> None:
    requests = model.asked(worked.mark)
    assert len(requests) == 2
    assert {one.headers["x-api-key"] for one in requests} == {model_key}
    assert {one.model for one in requests} == {MODEL}
    used = worked.found["usage"]["agent"]
    assert (used["turns"], used["requests"]) == (2, 2)
    assert (used["input_tokens"], used["output_tokens"]) == (200, 40)
    assert (used["cache_read_tokens"], used["cache_write_tokens"]) == (20, 10)
    assert used["cost_usd"] == pytest.approx(result_of(api, worked.task)["total_cost_usd"], abs=1e-6)
    assert used["cost_usd"] > 0
    assert set(used["models"]) == {MODEL}
    assert worked.found["progress"]["tool_calls"] == 2
    assert worked.found["progress"]["current_tool"] is None


def test_what_it_does_is_told_in_its_order(api: httpx.Client, worked: Worked) -> None:
    told = events(api, worked.task)
    assert [one["type"] for one in told] == [
        "agent_started", "message", "tool_use", "tool_use", "tool_result", "tool_result", "message", "result",
    ]  # fmt: skip
    started, said, write, run, *results, last_words, result = told
    assert (started["version"], started["model"]) == (VERSION, MODEL)
    assert (said["text"], last_words["text"]) == ("Let me see.", "It is *done*.")
    assert (write["tool"], write["summary"]) == ("Write", "/workspace/notes.txt")
    assert (run["tool"], run["summary"]) == ("Bash", "sed -i s/two/three/ README.md; echo done")
    assert {one["tool_use_id"] for one in results} == {write["tool_use_id"], run["tool_use_id"]}
    assert [one["is_error"] for one in results] == [False, False]
    assert [one["summary"] for one in results if one["tool"] == "Bash"] == ["done"]
    assert (result["is_error"], result["text"]) == (False, "It is *done*.")


def test_the_command_line_shows_a_conversation_and_the_raw_stream_when_asked(
    product: Product, api: httpx.Client, worked: Worked
) -> None:
    shown = sandbox(product, "task", "logs", worked.task).stdout.splitlines()
    assert "Let me see." in shown
    assert "● Write: /workspace/notes.txt" in shown
    assert "● Bash: sed -i s/two/three/ README.md; echo done" in shown
    assert shown[-1].startswith("✓ the agent is done: ")
    assert not any(line.startswith("{") for line in shown)
    assert sandbox(product, "task", "logs", worked.task, "--raw").stdout.encode() == raw_output(api, worked.task)


def test_the_tool_that_runs_is_shown_while_it_runs(
    product: Product, api: httpx.Client, model: Model, repository: Path
) -> None:
    task = submit(api, agent_manifest(repository, model.plays(answer(bash(wait_for_file("go"))), answer("Done."))))
    eventually_told(api, task, "tool_use")
    progress = api.get(f"/tasks/{task}").json()["progress"]
    assert (progress["tool_calls"], progress["current_tool"]) == (1, "Bash")
    (workspace(product, task) / "go").touch()
    assert ended(api, task)["progress"]["current_tool"] is None


def test_work_that_the_agent_left_in_the_background_is_waited_for(
    product: Product, api: httpx.Client, model: Model, repository: Path
) -> None:
    later = bash(f"{wait_for_file('go')}; echo late > late.txt", run_in_background=True)
    task = submit(
        api, agent_manifest(repository, model.plays(answer(later), answer("It runs."), answer("It is over.")))
    )
    eventually_told(api, task, "result", lambda told: told["text"] == "It runs.")
    assert state_of(api, task) == "running"
    (workspace(product, task) / "go").touch()
    assert ended(api, task)["state"] == "completed"
    assert artifact(api, task, f"{task}.result.md").decode().strip() == "It is over."
    assert "late.txt" in artifact(api, task, f"{task}.patch").decode()


@pytest.mark.parametrize("form", ["json", "text"])
def test_another_output_format_shows_the_result_alone_and_tells_the_same(
    api: httpx.Client, model: Model, repository: Path, form: str
) -> None:
    task = submit(api, agent_manifest(repository, model.plays(*WORK), output_format=form))
    found = ended(api, task)
    assert found["state"] == "completed", found["outcome"]
    printed = raw_output(api, task)
    if form == "text":
        assert printed == b"It is *done*.\n"
    else:
        result = json.loads(printed)
        assert (result["type"], result["result"]) == ("result", "It is *done*.")
    assert len(events(api, task, "tool_use", "tool_result")) == 4
    assert found["progress"]["tool_calls"] == 2
    assert [one["type"] for one in stream(api, task)].count("result") == 1
    assert artifact(api, task, f"{task}.result.md").decode().strip() == "It is *done*."


def test_a_prompt_that_begins_with_a_slash_reaches_the_model_as_a_text(
    api: httpx.Client, model: Model, repository: Path
) -> None:
    mark = model.plays(answer("I have read it."))
    task = submit(api, agent_manifest(repository, f"/clear is a command elsewhere. {mark}"))
    assert ended(api, task)["state"] == "completed"
    [request] = model.asked(mark)
    assert any(
        part["text"].strip() == f"/clear is a command elsewhere. {mark}"
        for part in request.messages[-1]["content"]
        if part["type"] == "text"
    )
    assert artifact(api, task, f"{task}.result.md").decode().strip() == "I have read it."


def test_allowed_tools_are_all_that_an_agent_has(api: httpx.Client, model: Model, repository: Path) -> None:
    mark = model.plays(
        answer(bash("touch /workspace/forbidden"), tool("Read", file_path="/workspace/README.md")), answer("I tried.")
    )
    task = submit(api, agent_manifest(repository, mark, allowed_tools=["Read", "Grep"]))
    assert ended(api, task)["state"] == "completed"
    assert set(model.asked(mark)[0].tools) == {"Read", "Grep"}
    told = {one["tool"]: one for one in events(api, task, "tool_result")}
    assert told["Bash"]["is_error"], told
    assert not told["Read"]["is_error"], told
    assert f"{task}.patch" not in artifact_paths(api, task)


def test_a_tool_is_allowed_for_a_part_of_what_it_can_do(api: httpx.Client, model: Model, repository: Path) -> None:
    mark = model.plays(answer(bash("echo allowed"), bash("touch /workspace/forbidden")), answer("I tried."))
    task = submit(api, agent_manifest(repository, mark, allowed_tools=["Bash(echo *)"], skip_permissions=False))
    assert ended(api, task)["state"] == "completed"
    first, second = tool_results(api, task)
    assert first["content"] == "allowed"
    assert second["is_error"], second
    assert f"{task}.patch" not in artifact_paths(api, task)
