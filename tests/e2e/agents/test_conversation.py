"""People talk to an agent that runs: they answer what it asks, allow or deny, send it messages, or do not come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.agents.agent_tasks import (
    agent_manifest,
    artifact,
    artifact_paths,
    events,
    eventually_told,
    question_of,
    sandbox,
    tool_results,
    wait_for_file,
    workspace,
)
from tests.e2e.agents.model import ASKS, Model, bash, words
from tests.e2e.stack import Product, eventually
from tests.e2e.submitting import Json, ended, raw_output, submit
from tests.model_api.scenarios import answer

pytestmark = pytest.mark.docker


def interactive(repository: Path, prompt: str, *, lifecycle: Json | None = None, **claude: Any) -> Json:
    return agent_manifest(repository, prompt, lifecycle=lifecycle, interactive=True, **claude)


def send(api: httpx.Client, task: str, **said: str) -> httpx.Response:
    return api.post(f"/tasks/{task}/input", json=said)


def test_a_question_is_shown_answered_and_heard(api: httpx.Client, model: Model, repository: Path) -> None:
    mark = model.plays(ASKS, answer("Thank you."))
    task = submit(api, interactive(repository, mark))
    question = question_of(api, task)
    assert (question["kind"], question["options"]) == ("question", ["SQLite", "PostgreSQL"])
    assert question["text"].startswith("Which database?")
    assert api.get(f"/tasks/{task}").json()["state"] == "running"
    assert len(model.asked(mark)) == 1

    accepted = send(api, task, answer="postgresql")
    assert accepted.status_code == 202, accepted.text
    again = send(api, task, id=question["id"], answer="SQLite")
    assert (again.status_code, again.json()["error"]) == (409, "not_waiting_for_input")

    found = ended(api, task)
    assert found["state"] == "completed", found["outcome"]
    assert found["input_required"] is None
    assert '"Which database?"="PostgreSQL"' in words(model.asked(mark)[-1].messages[-1])
    asked, given = events(api, task, "input_required", "input")
    assert (asked["id"], asked["kind"], asked["options"]) == (question["id"], "question", question["options"])
    assert (given["kind"], given["question_id"], given["answer"]) == ("answer", question["id"], "postgresql")
    assert artifact(api, task, f"{task}.result.md").decode().strip() == "Thank you."


def test_one_tool_is_allowed_and_another_denied_from_the_command_line(
    product: Product, api: httpx.Client, model: Model, repository: Path
) -> None:
    mark = model.plays(
        answer(bash("touch /workspace/wanted")), answer(bash("touch /workspace/unwanted")), answer("One of two.")
    )
    task = submit(api, interactive(repository, mark, skip_permissions=False))
    first = question_of(api, task)
    assert (first["kind"], first["options"]) == ("permission", ["allow", "deny"])
    assert "touch /workspace/wanted" in first["text"]
    shown = sandbox(product, "task", "status", task).stdout
    assert "touch /workspace/wanted" in shown
    assert sandbox(product, "task", "send", task, "--answer", "allow").returncode == 0

    eventually("it asks for the next one", lambda: question_of(api, task)["id"] != first["id"])
    sent = sandbox(product, "task", "send", task, "--answer", "deny: not in this repository")
    assert sent.returncode == 0, sent.stderr
    found = ended(api, task)
    assert found["state"] == "completed", found["outcome"]
    allowed, denied = tool_results(api, task)
    assert not allowed.get("is_error"), allowed
    assert denied["is_error"], denied
    assert "not in this repository" in words(model.asked(mark)[-1].messages[-1])
    patch = artifact(api, task, f"{task}.patch").decode()
    assert "b/wanted" in patch
    assert "unwanted" not in patch


def test_without_anybody_to_ask_a_tool_that_needs_permission_is_denied(
    api: httpx.Client, model: Model, repository: Path
) -> None:
    mark = model.plays(answer(bash("touch /workspace/unwanted")), answer("I may not."))
    task = submit(api, agent_manifest(repository, mark, skip_permissions=False))
    found = ended(api, task)
    assert found["state"] == "completed", found["outcome"]
    [told] = events(api, task, "permission_denied")
    assert told["tool"] == "Bash"
    [result] = tool_results(api, task)
    assert result["is_error"], result
    assert f"{task}.patch" not in artifact_paths(api, task)


@pytest.mark.parametrize("text", ["leave the tests alone", "/tests are to be left alone"])
def test_a_message_reaches_an_agent_that_is_at_work(
    product: Product, api: httpx.Client, model: Model, repository: Path, text: str
) -> None:
    mark = model.plays(answer(bash(wait_for_file("go"))), answer("I have read it."), answer("I have read it."))
    task = submit(api, interactive(repository, mark))
    eventually_told(api, task, "tool_use")
    sent = sandbox(product, "task", "send", task, text)
    assert sent.returncode == 0, sent.stderr
    eventually("prompt and message are taken in", lambda: raw_output(api, task).count(b'"state":"queued"') == 2)
    assert len(model.asked(mark)) == 1
    (workspace(product, task) / "go").touch()

    found = ended(api, task)
    assert found["state"] == "completed", found["outcome"]
    heard = [words(one.messages).count(text) for one in model.asked(mark)]
    # What looks like a command waits for the end of the turn; anything else is heard after the present step.
    assert heard == ([0, 0, 1] if text.startswith("/") else [0, 1])
    [told] = events(api, task, "input")
    assert (told["kind"], told["text"]) == ("message", text)
    late = send(api, task, text="too late")
    assert (late.status_code, late.json()["error"]) == (409, "task_already_terminal")


def test_who_is_not_interactive_takes_no_input(
    product: Product, api: httpx.Client, model: Model, repository: Path
) -> None:
    task = submit(api, agent_manifest(repository, model.plays(answer(bash(wait_for_file("go"))), answer("Done."))))
    eventually_told(api, task, "tool_use")
    refused = send(api, task, text="hello")
    assert (refused.status_code, refused.json()["error"]) == (409, "not_interactive")
    (workspace(product, task) / "go").touch()
    assert ended(api, task)["state"] == "completed"


def test_an_agent_that_nobody_answers_is_ended_by_input_timeout(
    api: httpx.Client, model: Model, repository: Path
) -> None:
    mark = model.plays(ASKS, answer("never"))
    task = submit(api, interactive(repository, mark, lifecycle={"input_timeout": "1s"}))
    found = ended(api, task)
    assert (found["state"], found["outcome"]["reason"]) == ("failed", "input_timeout")
    assert found["outcome"]["fault"] == "user"
    assert "lifecycle.input_timeout" in found["outcome"]["message"]
    assert found["input_required"] is None
    assert len(model.asked(mark)) == 1


def test_a_task_that_is_cancelled_while_it_waits_asks_no_more(
    api: httpx.Client, model: Model, repository: Path
) -> None:
    task = submit(api, interactive(repository, model.plays(ASKS, answer("never"))))
    question = question_of(api, task)
    assert api.delete(f"/tasks/{task}", params={"wait": 60}).json()["new_state"] == "cancelled"
    found = api.get(f"/tasks/{task}").json()
    assert (found["exit_code"], found["input_required"]) == (143, None)
    late = send(api, task, id=question["id"], answer="SQLite")
    assert (late.status_code, late.json()["error"]) == (409, "task_already_terminal")


@pytest.mark.parametrize("pauses", [True, False], ids=["paused", "running"])
def test_the_run_clock_stops_while_an_agent_waits_where_the_manifest_says_so(
    api: httpx.Client, model: Model, repository: Path, pauses: bool
) -> None:
    timeout = 12 if pauses else 4
    lifecycle = {"timeout": f"{timeout}s", "pause_clock_on_input": pauses}
    task = submit(api, interactive(repository, model.plays(ASKS, answer("Thank you.")), lifecycle=lifecycle))
    if not pauses:
        assert ended(api, task)["outcome"]["reason"] == "timeout"
        return
    question_of(api, task)
    eventually("its timeout would be over", lambda: api.get(f"/tasks/{task}").json()["usage"]["wall_seconds"] > timeout)
    assert send(api, task, answer="SQLite").status_code == 202
    found = ended(api, task)
    assert found["state"] == "completed", found["outcome"]
