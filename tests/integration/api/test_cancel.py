from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.product import Product
from orchestrator.services import claim as claims
from orchestrator.states import State
from orchestrator.store import tasks
from orchestrator.store.tables import tasks as table
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import MANIFEST, BuildHost, broker_of
from tests.integration.api.test_errors import assert_error
from tests.integration.api.waiting import Background, chance, eventually

TASKS = "/api/v1/tasks"


def get(client: CheckedClient, task_id: str) -> dict[str, Any]:
    body = client.get(f"{TASKS}/{task_id}").json
    assert body
    return dict(body)


def is_wanted(client: CheckedClient, task_id: str) -> bool:
    return get(client, task_id)["cancel"] is not None


def test_a_pending_task_is_cancelled_at_once(client: CheckedClient) -> None:
    task_id = client.task()
    response = client.delete(f"{TASKS}/{task_id}?reason=not+needed")
    assert response.status_code == 200
    body = response.json
    assert body
    task = get(client, task_id)
    assert (body["previous_state"], body["new_state"], body["cancelled_at"]) == (
        "pending", "cancelled", task["finished_at"],
    )  # fmt: skip
    assert task["state"] == "cancelled"
    assert task["outcome"]["reason"] == "cancelled"
    assert task["outcome"]["fault"] is None
    assert task["cancel"]["reason"] == "not needed"
    assert task["cancel"]["phase"] == "confirmed"


def test_a_task_that_is_placed_but_not_claimed_is_cancelled_at_once(client: CheckedClient, host: BuildHost) -> None:
    task_id = client.task()
    assert get(client, task_id)["worker"] == host.name
    assert client.delete(f"{TASKS}/{task_id}").status_code == 200
    with pytest.raises(AssertionError, match="is not placed"):
        host.claim(task_id)


def test_the_call_waits_and_answers_200_when_the_worker_confirms(
    client: CheckedClient, host: BuildHost, product: Product
) -> None:
    task_id = client.task()
    claim = host.run(task_id)
    call = Background(client.delete, f"{TASKS}/{task_id}?reason=stop&wait=300")
    eventually("the wish is stored", lambda: is_wanted(client, task_id))
    eventually("the worker is told", lambda: broker_of(product).cancels == [(host.name, task_id, 1)])
    assert not call.done
    host.end_command(claim)
    host.say(claim, "the tail\n")
    assert not call.done
    host.confirm_cancel(claim)
    response = call.result()
    assert response.status_code == 200
    assert response.json["new_state"] == "cancelled"
    assert response.json["previous_state"] == "running"
    assert response.json["cancelled_at"] == get(client, task_id)["finished_at"]


def test_a_waiting_call_sees_the_end_whatever_else_is_written_meanwhile(client: CheckedClient, host: BuildHost) -> None:
    chance_ = chance(5)
    for _ in range(10):
        task_id = client.task()
        claim = host.run(task_id)
        call = Background(client.delete, f"{TASKS}/{task_id}?wait=300")
        eventually("the wish is stored", lambda task_id=task_id: is_wanted(client, task_id))
        for _ in range(chance_.randrange(20)):
            host.say(claim, "line\n")
        host.confirm_cancel(claim)
        assert call.result().status_code == 200


def test_a_time_that_is_over_first_answers_202_with_the_phase(client: CheckedClient, host: BuildHost) -> None:
    task_id = client.task()
    claim = host.run(task_id)

    def phase(query: str = "wait=0") -> str:
        response = client.delete(f"{TASKS}/{task_id}?{query}")
        assert response.status_code == 202
        assert response.json
        assert response.json["new_state"] == get(client, task_id)["state"]
        assert response.json["previous_state"] == "running"
        assert response.json["cancel"] == get(client, task_id)["cancel"]
        return str(response.json["cancel"]["phase"])

    assert phase("wait=1&reason=first") == "requested"
    host.end_command(claim)
    assert phase() == "stopping"
    claims.note(host.product, claim, verdict={"stopped": "2026-01-29T10:16:03.250000Z"})
    assert phase("wait=0&reason=second") == "collecting"
    assert get(client, task_id)["cancel"]["reason"] == "first"
    host.confirm_cancel(claim)
    assert get(client, task_id)["cancel"]["phase"] == "confirmed"


def test_a_second_call_is_harmless_and_may_add_force(client: CheckedClient, host: BuildHost) -> None:
    task_id = client.task()
    claim = host.run(task_id)
    assert client.delete(f"{TASKS}/{task_id}?wait=0").json["cancel"]["force"] is False  # type: ignore[index]
    assert client.delete(f"{TASKS}/{task_id}?wait=0&force=true").json["cancel"]["force"] is True  # type: ignore[index]
    assert client.delete(f"{TASKS}/{task_id}?wait=0&force=false").json["cancel"]["force"] is True  # type: ignore[index]
    both = [Background(client.delete, f"{TASKS}/{task_id}?wait=300") for _ in range(2)]
    feeds = client.application.extensions["sandbox-parts"].hub._feeds
    eventually("both wait", lambda: task_id in feeds and feeds[task_id].followers == 2)
    host.confirm_cancel(claim)
    assert [call.result().json["new_state"] for call in both] == ["cancelled"] * 2


@pytest.mark.parametrize(("code", "state"), [(0, "completed"), (1, "failed")])
def test_a_task_that_has_ended_is_409_with_its_state(
    client: CheckedClient, host: BuildHost, code: int, state: str
) -> None:
    task_id = client.task()
    host.exit(host.run(task_id), code)
    body = assert_error(client.delete(f"{TASKS}/{task_id}"), 409, "task_already_terminal")
    assert body["task_state"] == state
    assert get(client, task_id)["cancel"] is None


def test_a_cancelled_task_is_409_too(client: CheckedClient) -> None:
    task_id = client.task()
    client.delete(f"{TASKS}/{task_id}")
    body = assert_error(client.delete(f"{TASKS}/{task_id}"), 409, "task_already_terminal")
    assert body["task_state"] == "cancelled"


def test_a_task_whose_worker_is_lost_while_the_call_waits_is_409_with_what_it_became(
    client: CheckedClient, host: BuildHost
) -> None:
    task_id = client.task()
    claim = host.run(task_id)
    call = Background(client.delete, f"{TASKS}/{task_id}?wait=300")
    eventually("the wish is stored", lambda: is_wanted(client, task_id))
    with host.product.database.write() as tx:
        from orchestrator.services.conclude import lose
        from orchestrator.store import tasks

        task = tasks.get(tx, task_id)
        assert task
        lose(tx, task, host.name, task.state_changed_at)
    assert claim.attempt == 1
    assert assert_error(call.result(), 409, "task_already_terminal")["task_state"] == "failed"


def test_reason_and_force_come_in_a_json_body_and_win_over_the_query(client: CheckedClient, host: BuildHost) -> None:
    task_id = client.task()
    host.run(task_id)
    body = {"reason": "broken – kaputt", "force": True}
    wish = client.delete(f"{TASKS}/{task_id}?wait=0&reason=query", json=body).json["cancel"]  # type: ignore[index]
    assert (wish["reason"], wish["force"], wish["requested_by"]) == ("broken – kaputt", True, "127.0.0.1")


@pytest.mark.parametrize(
    ("content_type", "data", "status", "error"),
    [
        ("application/json", '{"reason": 1}', 400, "invalid_parameter"),
        ("application/json", '{"force": "yes"}', 400, "invalid_parameter"),
        ("application/json", '{"wait": 5}', 400, "invalid_parameter"),
        ("application/json", '{"reason": "%s"}' % ("x" * 1001), 400, "invalid_parameter"),
        ("application/json", '{"reason": "\\u0000"}', 400, "invalid_parameter"),
        ("application/json", "[]", 400, "invalid_parameter"),
        ("application/json", "{", 400, "invalid_parameter"),
        ("application/json", "[" * 100_000, 400, "invalid_parameter"),
        ("text/plain", '{"reason": "x"}', 415, "unsupported_content_type"),
        (None, '{"reason": "x"}', 415, "unsupported_content_type"),
        ("application/json", " " * (2 << 20) + "{}", 413, "manifest_too_large"),
    ],
)
def test_a_bad_body_is_refused_before_anything_is_cancelled(
    client: CheckedClient, content_type: str | None, data: str, status: int, error: str
) -> None:
    task_id = client.task()
    assert_error(client.delete(f"{TASKS}/{task_id}", data=data, content_type=content_type), status, error)
    assert get(client, task_id)["state"] == "pending"


def test_children_are_cancelled_with_their_parent_when_asked_for(client: CheckedClient, host: BuildHost) -> None:
    parent = client.task()
    child = client.submit(MANIFEST + f"parent_id: {parent}\n").json["task_id"]  # type: ignore[index]
    grandchild = client.submit(MANIFEST + f"parent_id: {child}\n").json["task_id"]  # type: ignore[index]
    ended = client.submit(MANIFEST + f"parent_id: {parent}\n").json["task_id"]  # type: ignore[index]
    other = client.task()
    host.exit(host.run(ended))
    host.run(child)
    assert client.delete(f"{TASKS}/{parent}?children=true").status_code == 200
    assert get(client, parent)["state"] == "cancelled"
    assert get(client, child)["cancel"]["phase"] == "requested"
    assert get(client, grandchild)["state"] == "cancelled"
    assert get(client, ended)["state"] == "completed"
    assert get(client, other)["state"] == "pending"


def test_children_of_a_parent_that_has_ended_are_cancelled_though_the_answer_is_409(
    client: CheckedClient, host: BuildHost
) -> None:
    parent = client.task()
    child = client.submit(MANIFEST + f"parent_id: {parent}\n").json["task_id"]  # type: ignore[index]
    host.exit(host.run(parent))
    assert client.delete(f"{TASKS}/{parent}?children=true").status_code == 409
    assert get(client, child)["state"] == "cancelled"


def test_children_in_a_ring_are_cancelled_once(
    client: CheckedClient, product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids come back after retention: a new task with an old id may have a grandchild of the old one as its parent."""
    parent = client.task()
    child = client.submit(MANIFEST + f"parent_id: {parent}\n").json["task_id"]  # type: ignore[index]
    with product.database.write() as tx:
        tx.execute(table.update().where(table.c.id == parent).values(parent_id=child))
    looked: list[str] = []

    def children_of(tx: sa.Connection, task_id: str, *, owner: str | None) -> list[str]:
        looked.append(task_id)
        assert len(looked) < 10, "it goes round and round"
        return found(tx, task_id, owner=owner)

    found = tasks.children_of
    monkeypatch.setattr(tasks, "children_of", children_of)
    assert client.delete(f"{TASKS}/{parent}?children=true").status_code == 200
    assert [get(client, one)["state"] for one in (parent, child)] == ["cancelled", "cancelled"]
    assert looked == [parent, child]


def test_children_live_on_when_nobody_asks(client: CheckedClient) -> None:
    parent = client.task()
    child = client.submit(MANIFEST + f"parent_id: {parent}\n").json["task_id"]  # type: ignore[index]
    client.delete(f"{TASKS}/{parent}")
    assert get(client, child)["state"] == "pending"


def test_a_broker_that_is_away_stores_the_wish_all_the_same(
    client: CheckedClient, host: BuildHost, product: Product
) -> None:
    task_id = client.task()
    host.run(task_id)
    broker_of(product).down = True
    assert client.delete(f"{TASKS}/{task_id}?wait=0").status_code == 202
    assert is_wanted(client, task_id)


def test_the_data_of_an_ended_task_is_removed_and_its_row_stays(client: CheckedClient, host: BuildHost) -> None:
    task_id = client.task()
    claim = host.run(task_id)
    host.say(claim, "secret words\n")
    host.keep(claim, {"report.md": b"report"})
    host.exit(claim)
    response = client.delete(f"{TASKS}/{task_id}/data")
    assert (response.status_code, response.data) == (204, b"")
    task = get(client, task_id)
    assert task["purged_at"]
    assert task["state"] == "completed"
    assert client.get(f"{TASKS}/{task_id}/artifacts").json["artifacts"] == []  # type: ignore[index]
    assert_error(client.get(f"{TASKS}/{task_id}/artifacts/report.md"), 404, "artifact_not_found")
    log = client.get(f"{TASKS}/{task_id}/logs").text
    assert "secret" not in log
    assert "completed" in log
    assert client.delete(f"{TASKS}/{task_id}/data").status_code == 204


@pytest.mark.parametrize("claimed", [False, True])
def test_the_data_of_a_task_that_has_not_ended_is_kept(client: CheckedClient, host: BuildHost, claimed: bool) -> None:
    task_id = client.task()
    if claimed:
        host.run(task_id)
    body = assert_error(client.delete(f"{TASKS}/{task_id}/data"), 422, "invalid_state_transition")
    assert body["task_state"] == ("running" if claimed else "pending")
    assert get(client, task_id)["purged_at"] is None


PATCH = "application/merge-patch+json"


def test_a_task_runs_again_as_a_new_one_with_the_same_definition(client: CheckedClient, host: BuildHost) -> None:
    task_id = client.task(id="first", labels="{team: a}")
    host.exit(host.run(task_id), 1)
    response = client.post(f"{TASKS}/{task_id}/rerun")
    assert response.status_code == 202
    body = response.json
    assert body
    again = get(client, body["task_id"])
    assert response.headers["Location"] == f"{TASKS}/{again['id']}"
    assert again["rerun_of"] == "first"
    assert again["id"] != "first"
    first = get(client, "first")
    assert {**again["definition"], "metadata": None} == {**first["definition"], "metadata": None}
    assert again["labels"] == {"team": "a"}
    assert (again["state"], first["state"]) == (State.PENDING, State.FAILED)


@pytest.mark.parametrize("content_type", [PATCH, "application/json"])
def test_a_merge_patch_changes_adds_and_removes(client: CheckedClient, content_type: str) -> None:
    task_id = client.submit(MANIFEST.replace("{name: A task}", "{name: A task, labels: {a: '1', b: '2'}}")).json[  # type: ignore[index]
        "task_id"
    ]
    patch = (
        '{"vm": {"memory": "2G"}, "metadata": {"id": "second", "labels": {"a": null, "c": "3"}},'
        ' "run": {"script": null, "command": ["true"]}}'
    )
    response = client.post(f"{TASKS}/{task_id}/rerun", data=patch, content_type=content_type)
    assert response.status_code == 202
    again = get(client, "second")
    assert again["definition"]["vm"]["memory"] == "2G"
    assert again["definition"]["vm"]["cpus"] == 1
    assert again["labels"] == {"b": "2", "c": "3"}
    assert again["definition"]["run"]["command"] == ["true"]
    assert again["definition"]["run"].get("script") is None


@pytest.mark.parametrize(
    ("patch", "status", "error"),
    [
        ('{"vm": {"memroy": "2G"}}', 400, "invalid_manifest"),
        ('{"vm": {"cpus": "many"}}', 400, "invalid_manifest"),
        ('{"metadata": null}', 400, "invalid_manifest"),
        ('{"run": {"command": ["true"]}}', 400, "invalid_manifest"),
        ('{"parent_id": "nobody"}', 400, "invalid_manifest"),
        ('{"metadata": {"id": "first"}}', 409, "duplicate_task_id"),
        ('{"vm": {"cpus": 200}}', 507, "insufficient_resources"),
        ("[]", 400, "invalid_manifest"),
        ("{", 400, "invalid_manifest"),
        (" ", 400, "invalid_manifest"),
    ],
)
def test_a_patch_that_makes_no_good_manifest_is_refused_and_nothing_is_stored(
    client: CheckedClient, host: BuildHost, patch: str, status: int, error: str
) -> None:
    client.task(id="first")
    assert_error(client.post(f"{TASKS}/first/rerun", data=patch, content_type=PATCH), status, error)
    assert client.get(TASKS).json["total_count"] == 1  # type: ignore[index]


def test_a_patch_of_another_content_type_is_415(client: CheckedClient) -> None:
    client.task(id="first")
    for content_type in ("text/plain", None):
        response = client.post(f"{TASKS}/first/rerun", data="{}", content_type=content_type)
        assert_error(response, 415, "unsupported_content_type")
