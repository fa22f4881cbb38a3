"""A worker may be killed while its agent works or waits: the next one goes on, and nothing is lost or comes twice."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.e2e.agents.agent_tasks import (
    PATIENCE_SECONDS,
    agent_manifest,
    artifact,
    events,
    question_of,
    stream,
    tool_results,
    wait_for_file,
    workspace,
)
from tests.e2e.agents.model import ASKS, Model, bash, words
from tests.e2e.stack import Product, eventually
from tests.e2e.submitting import Json, ended, raw_output, submit
from tests.model_api.scenarios import answer
from tests.servers.process import pause

pytestmark = pytest.mark.docker


@contextmanager
def without_worker(product: Product) -> Iterator[None]:
    """Kill the worker; the next one is started when the block ends, and is at work a moment later."""
    assert product.process
    worker = product.child("worker")
    pause(product.process.pid)
    try:
        os.kill(worker, signal.SIGKILL)
        eventually("the worker is dead", lambda: b"worker" not in Path(f"/proc/{worker}/cmdline").read_bytes())
        yield
    finally:
        product.process.send_signal(signal.SIGCONT)


def assert_told_once(api: httpx.Client, task: str) -> list[Json]:
    """Return the agent's stream, in which every line is there once; so is every event, in the stream's order."""
    lines = stream(api, task)
    assert artifact(api, task, f"{task}.claude-stream.jsonl") == raw_output(api, task)
    [repeated] = [Counter(one["uuid"] for one in lines if "uuid" in one).most_common(1)]
    assert repeated[0][1] == 1, repeated
    calls = [part["id"] for one in lines if one["type"] == "assistant" for part in parts(one, "tool_use")]
    results = [one["tool_use_id"] for one in tool_results(api, task)]
    assert sorted(calls) == sorted(results) == sorted(set(calls))
    assert [one["tool_use_id"] for one in events(api, task, "tool_use")] == calls
    assert [one["tool_use_id"] for one in events(api, task, "tool_result")] == results
    said = [part["text"] for one in lines if one["type"] == "assistant" for part in parts(one, "text")]
    assert [one["text"] for one in events(api, task, "message")] == said
    return lines


def has_used(api: httpx.Client, task: str, input_tokens: int) -> bool:
    """Whether so many are stored of it: what was counted in the last seconds dies with a worker."""
    return (api.get(f"/tasks/{task}").json()["usage"]["agent"] or {}).get("input_tokens") == input_tokens


def parts(line: Json, kind: str) -> list[Json]:
    return [part for part in line["message"]["content"] if part["type"] == kind]


def test_a_worker_killed_twice_while_its_agent_works_loses_and_repeats_nothing(
    product: Product, api: httpx.Client, model: Model, repository: Path
) -> None:
    mark = model.plays(
        answer("One.", bash(f"{wait_for_file('one')}; echo 1; touch /workspace/after-one")),
        answer("Two.", bash(f"{wait_for_file('two')}; echo 2; touch /workspace/after-two")),
        answer("Three."),
    )
    task = submit(api, agent_manifest(repository, mark))
    for number, name in enumerate(("one", "two"), 1):
        eventually("its answers are counted", partial(has_used, api, task, number * 100), PATIENCE_SECONDS)
        inside = workspace(product, task)
        with without_worker(product):
            (inside / name).touch()
            eventually("the tool has ended meanwhile", (inside / f"after-{name}").exists)
    found = ended(api, task)
    assert found["state"] == "completed", found["outcome"]
    assert len(found["attempts"]) == 1
    lines = assert_told_once(api, task)
    said = [part["text"] for one in lines if one["type"] == "assistant" for part in parts(one, "text")]
    assert said == ["One.", "Two.", "Three."]
    assert [one["content"] for one in tool_results(api, task)] == ["1", "2"]
    assert [one["type"] for one in lines].count("result") == 1
    assert artifact(api, task, f"{task}.result.md").decode().strip() == "Three."
    assert found["progress"]["tool_calls"] == 2
    used = found["usage"]["agent"]
    assert (used["turns"], used["input_tokens"], used["output_tokens"]) == (3, 300, 60)


def test_what_is_sent_while_the_worker_is_dead_arrives_once(
    product: Product, api: httpx.Client, model: Model, repository: Path
) -> None:
    mark = model.plays(ASKS, answer("Thank you."))
    task = submit(api, agent_manifest(repository, mark, interactive=True))
    question = question_of(api, task)
    with without_worker(product):
        assert api.get(f"/tasks/{task}").json()["input_required"]["id"] == question["id"]
        sent = api.post(f"/tasks/{task}/input", json={"answer": "SQLite"})
        assert sent.status_code == 202, sent.text
        assert api.get(f"/tasks/{task}").json()["input_required"] is None
    found = ended(api, task)
    assert found["state"] == "completed", found["outcome"]
    assert_told_once(api, task)
    requests = model.asked(mark)
    assert words(requests[-1].messages).count('"Which database?"="SQLite"') == 1
    assert len(requests) == 2
    assert [one["type"] for one in events(api, task, "input_required", "input")] == ["input_required", "input"]


def test_a_worker_killed_while_its_agent_waits_goes_on_waiting_and_a_message_is_not_given_twice(
    product: Product, api: httpx.Client, model: Model, repository: Path
) -> None:
    mark = model.plays(ASKS, answer("Thank you."), answer("Thank you."))
    task = submit(api, agent_manifest(repository, mark, interactive=True))
    question = question_of(api, task)
    assert api.post(f"/tasks/{task}/input", json={"text": "be quick about it"}).status_code == 202
    eventually("prompt and message are taken in", lambda: raw_output(api, task).count(b'"state":"queued"') == 2)
    with without_worker(product):
        pass
    adopted = f"attempt adopted task={task}"
    eventually(adopted, lambda: adopted in product.log_file.read_text(), PATIENCE_SECONDS)
    assert api.get(f"/tasks/{task}").json()["input_required"] == question
    assert api.post(f"/tasks/{task}/input", json={"answer": "SQLite"}).status_code == 202
    found = ended(api, task)
    assert found["state"] == "completed", found["outcome"]
    assert len(found["attempts"]) == 1
    assert_told_once(api, task)
    heard = words(model.asked(mark)[-1].messages)
    assert heard.count('"Which database?"="SQLite"') == 1
    assert heard.count("be quick about it") == 1
