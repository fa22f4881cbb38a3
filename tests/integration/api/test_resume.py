"""`POST /tasks/{id}/resume`: a new task from what an agent left."""

from __future__ import annotations

import io
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from api.parts import KEY
from orchestrator.access import Scope
from orchestrator.models import Claim
from orchestrator.product import Product
from orchestrator.services import claim as claims
from orchestrator.services.purge import session_key
from orchestrator.store import audit
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import BuildHost
from tests.integration.api.test_errors import assert_error
from tests.integration.api.test_input import AGENT
from tests.integration.api.tokens import Headers, headers_of

TASKS = "/api/v1/tasks"


def keep(product: Product, claim: Claim) -> None:
    key = session_key(claim.task_id, claim.attempt)
    stored = product.artifacts.put(key, io.BytesIO(b"session"), limit=100)
    session = {
        "key": key, "size_bytes": stored.size_bytes, "sha256": stored.sha256, "agent_session_id": "s", "commit": None,
        "cost_usd": 0.25,
    }  # fmt: skip
    claims.note(product, claim, session=session)


def ended(client: CheckedClient, host: BuildHost, headers: Headers | None = None) -> str:
    """An agent's task that has ended and kept its session."""
    task_id = str(client.submit(AGENT, headers=headers).json["task_id"])  # type: ignore[index]
    claim = host.run(task_id)
    keep(host.product, claim)
    host.exit(claim)
    return task_id


def resume(client: CheckedClient, task_id: str, body: Any = None, **more: Any) -> TestResponse:
    return client.post(f"{TASKS}/{task_id}/resume", **({} if body is None else {"json": body}), **more)


def read(client: CheckedClient, task_id: str) -> dict[str, Any]:
    body = client.get(f"{TASKS}/{task_id}").json
    assert body is not None
    return body


def test_a_task_that_kept_its_session_is_gone_on_from(client: CheckedClient, host: BuildHost) -> None:
    old = ended(client, host)
    assert read(client, old)["attempts"][0]["session"] == {"resumable": True, "size_bytes": 7}
    response = resume(client, old, {"prompt": "now the tests"})
    assert response.status_code == 202
    assert response.json is not None
    new = response.json["task_id"]
    assert response.headers["Location"] == f"{TASKS}/{new}"
    shown = read(client, new)
    assert (shown["resumed_from"], shown["parent_id"], shown["rerun_of"]) == (old, old, None)
    assert shown["definition"]["claude"]["prompt"] == "now the tests"
    listed = {one["id"]: one["resumed_from"] for one in client.get(TASKS).json["tasks"]}  # type: ignore[index]
    assert listed == {old: None, new: old}


def test_what_the_session_had_cost_before_is_not_counted_again(client: CheckedClient, host: BuildHost) -> None:
    old = ended(client, host)
    claim = host.run(resume(client, old).json["task_id"])  # type: ignore[index]
    agent = {"turns": 1, "cost_usd": 0.75, "result": {"is_error": False}}
    claims.note(host.product, claim, agent=agent)
    assert read(client, claim.task_id)["usage"]["agent"]["cost_usd"] == 0.5
    client.delete(f"{TASKS}/{old}/data")
    assert read(client, claim.task_id)["usage"]["agent"]["cost_usd"] == 0.5


def test_a_session_is_resumable_once_its_task_has_ended_and_until_it_is_purged(
    client: CheckedClient, host: BuildHost
) -> None:
    claim = host.run(str(client.submit(AGENT).json["task_id"]))  # type: ignore[index]
    keep(host.product, claim)
    assert read(client, claim.task_id)["attempts"][0]["session"] == {"resumable": False, "size_bytes": 7}
    refused = assert_error(resume(client, claim.task_id), 409, "session_not_kept")
    assert "it is running" in str(refused["message"])
    host.exit(claim)
    assert read(client, claim.task_id)["attempts"][0]["session"]["resumable"]
    assert client.delete(f"{TASKS}/{claim.task_id}/data").status_code == 204
    assert read(client, claim.task_id)["attempts"][0]["session"] is None
    refused = assert_error(resume(client, claim.task_id), 409, "session_not_kept")
    assert "what it left was removed" in str(refused["message"])


def test_the_rerun_of_a_resumed_task_needs_the_session_too(client: CheckedClient, host: BuildHost) -> None:
    old = ended(client, host)
    resumed = resume(client, old).json["task_id"]  # type: ignore[index]
    assert client.post(f"{TASKS}/{resumed}/rerun").status_code == 202
    client.delete(f"{TASKS}/{old}/data")
    assert_error(client.post(f"{TASKS}/{resumed}/rerun"), 409, "session_not_kept")


def test_a_command_and_an_unknown_task_cannot_be_resumed(client: CheckedClient, host: BuildHost) -> None:
    command = host.run(client.task())
    host.exit(command)
    refused = assert_error(resume(client, command.task_id), 409, "session_not_kept")
    assert "it runs a command" in str(refused["message"])
    assert_error(resume(client, "nobody"), 404, "task_not_found")


@pytest.mark.parametrize(
    ("body", "error"),
    [({"prompt": ""}, "invalid_manifest"), ({"prompt": 5}, "invalid_parameter"), ({"words": "x"}, "invalid_parameter")],
)
def test_a_prompt_that_is_none_is_refused(client: CheckedClient, host: BuildHost, body: Any, error: str) -> None:
    old = ended(client, host)
    assert_error(resume(client, old, body), 400, error)
    assert client.get(TASKS).json["total_count"] == 1  # type: ignore[index]


def test_the_same_key_is_the_same_task(client: CheckedClient, host: BuildHost) -> None:
    old, key = ended(client, host), {"Idempotency-Key": "k"}
    first, again = (resume(client, old, {"prompt": "on"}, headers=key).json["task_id"] for _ in range(2))  # type: ignore[index]
    assert first == again
    assert_error(resume(client, old, {"prompt": "off"}, headers=key), 422, "idempotency_key_reused")


def test_only_a_tasks_owner_goes_on_from_it_and_the_trail_says_so(
    app: Flask, client: CheckedClient, product: Product, host: BuildHost
) -> None:
    old = ended(client, host, headers_of(product, "alice"))
    everybodys = (Scope.TASK_CREATE, Scope.TASK_READ_ALL, Scope.TASK_CANCEL_ALL, Scope.TASK_ARTIFACTS_ALL)
    for headers, status in (
        (headers_of(product, "alice", Scope.TASK_CREATE), 403),
        (headers_of(product, "alice", Scope.TASK_READ), 403),
        (headers_of(product, "bob"), 404),
        (headers_of(product, "bob", *everybodys), 404),
        (headers_of(product, "alice", Scope.TASK_READ, Scope.TASK_CREATE), 202),
        (headers_of(product, "root", Scope.ADMIN), 202),
    ):
        assert resume(client, old, headers=headers).status_code == status
    app.extensions[KEY].trail.flush(30)
    with product.database.read() as tx:
        found = [(one.owner, one.subject, one.status) for one in audit.find(tx, action="task.resume")]
    assert found[-2:] == [("alice", old, 202), ("root", old, 202)]


def test_who_may_read_a_resumed_task_does_not_get_its_session_by_a_rerun(
    client: CheckedClient, product: Product, host: BuildHost
) -> None:
    alice = headers_of(product, "alice")
    resumed = resume(client, ended(client, host, alice), headers=alice).json["task_id"]  # type: ignore[index]
    auditor = headers_of(product, "bob", Scope.TASK_CREATE, Scope.TASK_READ_ALL)
    refused = assert_error(client.post(f"{TASKS}/{resumed}/rerun", headers=auditor), 409, "session_not_kept")
    assert "is not yours to go on from" in str(refused["message"])
    patch = {"json": {"claude": None, "run": {"script": "env"}}, "headers": alice}
    assert_error(client.post(f"{TASKS}/{resumed}/rerun", **patch), 400, "invalid_manifest")
    assert client.post(f"{TASKS}/{resumed}/rerun", headers=alice).status_code == 202
