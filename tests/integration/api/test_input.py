"""`POST /tasks/{id}/input`, what a task says of its agent, and the log of a conversation."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from api.parts import KEY
from orchestrator import clock
from orchestrator.access import Scope
from orchestrator.models import Claim, Kind, NewRecord, Question
from orchestrator.product import Product
from orchestrator.services import claim as claims
from orchestrator.services.send_input import MAX_INPUTS
from orchestrator.store import attempts, audit, conversation, progress
from orchestrator.store.tables import inputs
from orchestrator.store.tables import tasks as task_table
from tests.integration.api import openapi
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import MANIFEST, BuildHost
from tests.integration.api.test_errors import assert_error
from tests.integration.api.tokens import headers_of

TASKS = "/api/v1/tasks"
AT = datetime(2026, 1, 29, 10, 15, tzinfo=UTC)
AGENT = MANIFEST.replace(
    'run: {script: "true"}', "repository: {url: https://example.test/r.git}\nclaude: {prompt: do it, interactive: true}"
)
QUESTION = Question("q1", AT, "question", "Which?", ("red", "blue"), {"request_id": "internal"})
SHOWN = {
    "id": "q1", "asked_at": "2026-01-29T10:15:00.000000Z", "kind": "question", "text": "Which?",
    "options": ["red", "blue"],
}  # fmt: skip


@pytest.fixture
def task_id(client: CheckedClient, host: BuildHost) -> str:
    response = client.submit(AGENT)
    assert response.status_code == 202, response.text
    return str(response.json["task_id"])  # type: ignore[index]


@pytest.fixture
def claim(host: BuildHost, task_id: str) -> Claim:
    return host.run(task_id)


def ask(product: Product, claim: Claim, *found: Question) -> None:
    with product.database.write() as tx:
        conversation.ask(tx, claim, found or [QUESTION])


def send(client: CheckedClient, task_id: str, body: Any, **more: Any) -> TestResponse:
    return client.post(f"{TASKS}/{task_id}/input", json=body, **more)


def read(client: CheckedClient, task_id: str) -> dict[str, Any]:
    body = client.get(f"{TASKS}/{task_id}").json
    assert body is not None
    return body


def test_an_answer_is_taken_once_and_the_question_is_gone(
    client: CheckedClient, product: Product, claim: Claim
) -> None:
    ask(product, claim)
    assert read(client, claim.task_id)["input_required"] == SHOWN
    assert [one["input_required"] for one in client.get(TASKS).json["tasks"]] == [SHOWN]  # type: ignore[index]
    response = send(client, claim.task_id, {"id": "q1", "answer": "red"})
    assert response.status_code == 202
    message = f"input 1 of task {claim.task_id} is stored; its agent is given it as soon as it takes it"
    assert response.json == {"task_id": claim.task_id, "number": 1, "message": message}
    assert read(client, claim.task_id)["input_required"] is None
    body = assert_error(send(client, claim.task_id, {"id": "q1", "answer": "blue"}), 409, "not_waiting_for_input")
    assert "it is answered already, at" in str(body["message"])
    with product.database.read() as tx:
        (given,) = conversation.inputs_after(tx, claim, 0)
    assert (given.answer, given.request) == ("red", QUESTION.request)


def test_what_is_sent_is_accepted_with_a_number_of_its_own(
    client: CheckedClient, product: Product, claim: Claim
) -> None:
    ask(product, claim)
    bodies: list[dict[str, Any]] = [{"text": "hello"}, {"answer": "red"}, {"text": "more", "id": None, "answer": None}]
    for number, body in enumerate(bodies, 1):
        response = send(client, claim.task_id, body)
        assert (response.status_code, response.json["number"]) == (202, number), response.text  # type: ignore[index]


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ({}, "body"),
        ({"text": "a", "answer": "b"}, "body"),
        ({"id": "q1"}, "body"),
        ({"id": "q1", "text": "a"}, "body"),
        ({"text": 5}, "text"),
        ({"answer": ["red"]}, "answer"),
        ({"id": 7, "answer": "red"}, "id"),
        ({"text": " \n"}, "text"),
        ({"text": "x" * ((1 << 20) + 1)}, "text"),
        ({"answer": "x" * ((1 << 20) + 1)}, "answer"),
        ({"text": "a\x00b"}, "body"),
        ({"answer": ""}, "answer"),
        ({"more": 1}, "more"),
        ([], "body"),
    ],
)
def test_what_is_no_input_is_refused_and_nothing_is_stored(
    client: CheckedClient, product: Product, claim: Claim, body: Any, parameter: str
) -> None:
    ask(product, claim)
    refused = assert_error(send(client, claim.task_id, body), 400, "invalid_parameter")
    assert refused["details"] == {"parameter": parameter}
    with product.database.read() as tx:
        assert conversation.inputs_after(tx, claim, 0) == []


def test_of_several_questions_the_first_is_shown_and_one_must_be_named(
    client: CheckedClient, product: Product, claim: Claim
) -> None:
    other = Question("q2", clock.now(), "permission", "May it?", ("allow", "deny"))
    ask(product, claim, other, QUESTION)
    assert read(client, claim.task_id)["input_required"]["id"] == "q1"
    refused = assert_error(send(client, claim.task_id, {"answer": "red"}), 400, "invalid_parameter")
    assert refused["details"] == {"parameter": "id"}
    refused = assert_error(send(client, claim.task_id, {"id": "q2", "answer": "red"}), 400, "invalid_parameter")
    assert refused["details"] == {"parameter": "answer"}
    assert send(client, claim.task_id, {"id": "q2", "answer": "deny: no"}).status_code == 202


def test_each_refusal_of_an_input_has_its_code(
    client: CheckedClient, product: Product, host: BuildHost, claim: Claim
) -> None:
    hello = {"text": "hello"}
    assert_error(send(client, "nobody", hello), 404, "task_not_found")
    assert_error(send(client, claim.task_id, {"answer": "red"}), 409, "not_waiting_for_input")
    assert_error(send(client, client.task(), hello), 409, "not_interactive")
    full = host.run(str(client.submit(AGENT).json["task_id"]))  # type: ignore[index]
    with product.database.write() as tx:
        row = {"task_id": full.task_id, "number": MAX_INPUTS, "at": AT, "attempt": 1, "request": {}, "sent_by": "a"}
        tx.execute(inputs.insert(), row)
    assert_error(send(client, full.task_id, hello), 409, "too_many_inputs")
    with product.database.write() as tx:
        assert conversation.close(tx, claim, 0)
    assert_error(send(client, claim.task_id, hello), 409, "input_closed")
    cancelled = host.run(str(client.submit(AGENT).json["task_id"]))  # type: ignore[index]
    client.delete(f"{TASKS}/{cancelled.task_id}?wait=0")
    refused = assert_error(send(client, cancelled.task_id, hello), 409, "input_closed")
    assert "it is being cancelled" in str(refused["message"])
    host.exit(claim)
    refused = assert_error(send(client, claim.task_id, hello), 409, "task_already_terminal")
    assert refused["task_state"] == "completed"


def test_who_sent_it_is_in_the_log_and_in_the_trail(
    app: Flask, client: CheckedClient, product: Product, host: BuildHost
) -> None:
    alice = headers_of(product, "alice")
    task_id = str(client.submit(AGENT, headers=alice).json["task_id"])  # type: ignore[index]
    host.run(task_id)
    assert send(client, task_id, {"text": "hello"}, headers=alice).status_code == 202
    raw = client.get(f"{TASKS}/{task_id}/logs?format=ndjson&stream=events", headers=alice).data
    told = [json.loads(line) for line in raw.splitlines()][-1]
    openapi.validate(openapi.component("LogRecord"), told)
    assert (told["type"], told["kind"], told["text"], told["by"]) == (
        "input",
        "message",
        "hello",
        "alice (token alices)",
    )
    app.extensions[KEY].trail.flush(30)
    with product.database.read() as tx:
        (entry,) = audit.find(tx, action="task.input")
    assert (entry.owner, entry.subject, entry.status) == ("alice", task_id, 202)


def test_only_a_tasks_owner_talks_to_its_agent_whatever_else_others_may(
    client: CheckedClient, product: Product, host: BuildHost
) -> None:
    alice = headers_of(product, "alice")
    task_id = str(client.submit(AGENT, headers=alice).json["task_id"])  # type: ignore[index]
    host.run(task_id)
    everybodys = (Scope.TASK_CREATE, Scope.TASK_READ_ALL, Scope.TASK_CANCEL_ALL, Scope.TASK_ARTIFACTS_ALL)
    for headers, status in (
        (headers_of(product, "alice", Scope.TASK_READ), 403),
        (headers_of(product, "bob"), 404),
        (headers_of(product, "bob", *everybodys), 404),
        (headers_of(product, "alice", Scope.TASK_CREATE), 202),
        (headers_of(product, "root", Scope.ADMIN), 202),
    ):
        assert send(client, task_id, {"text": "hello"}, headers=headers).status_code == status


def test_a_question_that_comes_late_is_shown_nowhere(client: CheckedClient, product: Product, task_id: str) -> None:
    with product.database.write() as tx:
        conversation.ask(tx, Claim(task_id, 1, 1), [QUESTION])
        attempts.insert(tx, Claim(task_id, 1, 1), "w", AT)
        tx.execute(task_table.update().values(attempt=1))
    assert read(client, task_id)["input_required"] is None
    assert [one["input_required"] for one in client.get(TASKS).json["tasks"]] == [None]  # type: ignore[index]


# --- what a task says of its agent


def test_a_command_uses_no_tools_asks_nothing_and_has_no_usage_of_an_agent(
    client: CheckedClient, host: BuildHost
) -> None:
    claim = host.run(client.task())
    shown = read(client, claim.task_id)
    assert (shown["input_required"], shown["resumed_from"], shown["usage"]["agent"]) == (None, None, None)
    assert shown["usage"]["wall_seconds"] >= 0
    assert (shown["progress"]["tool_calls"], shown["progress"]["current_tool"]) == (0, None)
    (attempt,) = shown["attempts"]
    assert (attempt["agent_version"], attempt["session"]) == (None, None)


def test_progress_and_usage_of_an_agent_are_shown_while_it_runs(
    client: CheckedClient, product: Product, claim: Claim
) -> None:
    with product.database.write() as tx:
        progress.save_tools(tx, claim, 7, "Bash")
    counted = {"requests": 4, "input_tokens": 10, "output_tokens": 20, "cache_read_tokens": 0, "cache_write_tokens": 0}
    relay = {
        **counted,
        "failed": 1,
        "cost_usd": 0.5,
        "budget_exhausted": False,
        "models": {"m": {**counted, "cost_usd": 0.5}},
    }
    claims.note(product, claim, agent={"version": "2.1.330", "turns": 3, "result": None}, model_usage=relay)
    shown = read(client, claim.task_id)
    assert (shown["progress"]["tool_calls"], shown["progress"]["current_tool"]) == (7, "Bash")
    expected = {**counted, "turns": 3, "cost_usd": 0.5, "models": {"m": {**counted, "cost_usd": 0.5}}}
    assert shown["usage"]["agent"] == shown["attempts"][0]["usage"]["agent"] == expected
    assert shown["attempts"][0]["agent_version"] == "2.1.330"
    listed = client.get(TASKS).json["tasks"][0]  # type: ignore[index]
    assert listed["progress"] == shown["progress"]


# --- its log


EVENTS: list[dict[str, Any]] = [
    {
        "type": "agent_started", "session_id": "s", "model": "m", "version": "2", "tools": 3,
        "mcp_servers": [{"name": "g", "status": "failed"}], "unknown_tools": ["Fly"],
    },
    {"type": "message", "text": "one\ntwo", "truncated": True},
    {"type": "tool_use", "tool": "Bash", "tool_use_id": "t", "summary": "ls", "input": "{}", "parent_tool_use_id": "p"},
    {"type": "tool_result", "tool": "Bash", "tool_use_id": "t", "is_error": True, "seconds": 0.1, "summary": "no"},
    {"type": "api_retry", "retry": 1, "max_retries": 9, "delay_seconds": 0.5, "status": None, "error": "unknown"},
    {"type": "mcp_failed", "server": "g", "status": "failed", "error": "gone"},
    {"type": "permission_denied", "tool": "Bash", "message": "no"},
    {"type": "background", "status": "started", "description": "d", "task_type": "local_bash"},
    {
        "type": "result", "is_error": False, "turns": 2, "cost_usd": 0.1, "text": "done", "reason": "completed",
        "input_tokens": 1, "output_tokens": 2, "cache_read_tokens": 3, "cache_write_tokens": 4,
    },
    {"type": "input_required", "id": "q", "kind": "question", "text": "Which?", "options": ["a"]},
    {"type": "input_withdrawn", "id": "q"},
]  # fmt: skip


def test_every_event_of_an_agent_is_documented(client: CheckedClient, host: BuildHost, claim: Claim) -> None:
    host.write(claim, *(NewRecord(Kind.EVENT, AT, body=body) for body in EVENTS))
    raw = client.get(f"{TASKS}/{claim.task_id}/logs?format=ndjson&stream=events").data
    found = [json.loads(line) for line in raw.splitlines()]
    for one in found:
        openapi.validate(openapi.component("LogRecord"), one)
    assert [one["type"] for one in found][-len(EVENTS) :] == [body["type"] for body in EVENTS]
    described = openapi.component("LogRecord")["description"]
    assert all(f"`{body['type']}`" in described for body in EVENTS)


def test_a_conversation_is_read_by_its_streams_and_counted_in_what_is_shown(
    client: CheckedClient, host: BuildHost, claim: Claim
) -> None:
    for number in range(5):
        host.say(claim, f'{{"number": {number}}}\n' * 10)
        host.write(claim, NewRecord(Kind.EVENT, AT, body={"type": "message", "text": f"message {number}"}))
    host.tell(claim, "a word of the product's own")
    host.say(claim, "a warning\n", stream="stderr")
    logs = f"{TASKS}/{claim.task_id}/logs"
    text = client.get(f"{logs}?format=text&stream=stderr,events,system&tail=4").text
    assert [line.split("] ", 1)[1] for line in text.splitlines()] == [
        "[EVENT] message 3", "[EVENT] message 4", "[SYSTEM] a word of the product's own", "[STDERR] a warning",
    ]  # fmt: skip
    assert client.get(f"{logs}?format=text&stream=system").text.count("\n") == 1
    every, named = (client.get(f"{logs}?stream={one}").text for one in ("all", "system,stdout,stderr,events"))
    assert every == named
    body = assert_error(client.get(f"{logs}?stream=stdout,words"), 400, "invalid_parameter")
    assert "'words' is no stream" in str(body["message"])


def test_what_an_agent_says_is_words_in_the_text_form(client: CheckedClient, host: BuildHost, claim: Claim) -> None:
    host.write(claim, NewRecord(Kind.EVENT, AT, body={"type": "message", "text": "one\ntwo"}))
    text = client.get(f"{TASKS}/{claim.task_id}/logs?format=text&stream=events").text
    head = "[2026-01-29T10:15:00.000000Z] [EVENT]"
    assert text.endswith(f"{head} one\n{head} two\n")
