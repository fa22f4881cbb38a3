"""Tasks belong to the owner of the token that submitted them. What is not in an address is looked at here; the
grid of all routes is tests/security/api/test_h1_whose_task_it_is.py."""

from __future__ import annotations

import pytest

from orchestrator.access import Scope
from orchestrator.product import Product
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import MANIFEST, BuildHost
from tests.integration.api.test_errors import assert_error
from tests.integration.api.tokens import Headers, headers_of

TASKS = "/api/v1/tasks"


@pytest.fixture
def alice(product: Product) -> Headers:
    return headers_of(product, "alice")


@pytest.fixture
def bob(product: Product) -> Headers:
    return headers_of(product, "bob")


def submit(client: CheckedClient, headers: Headers, manifest: str = MANIFEST) -> str:
    response = client.submit(manifest, headers=headers)
    assert response.status_code == 202, response.text
    return str(response.json["task_id"])  # type: ignore[index]


def named(task_id: str, more: str = "") -> str:
    return MANIFEST.replace("metadata: {name: A task}", f"metadata: {{name: A task, id: {task_id}}}") + more


def listed(client: CheckedClient, headers: Headers, query: str = "") -> tuple[list[str], int]:
    body = client.get(f"{TASKS}{query}", headers=headers).json
    assert body is not None
    return sorted(one["id"] for one in body["tasks"]), body["total_count"]


def test_a_list_holds_and_counts_ones_own_tasks_only(client: CheckedClient, alice: Headers, bob: Headers) -> None:
    mine = sorted(submit(client, alice) for _ in range(3))
    other = submit(client, bob, named("bobs", "parent_id: null\n"))
    queries = ["", "?state=pending", "?sort=name", "?sort=started_at&order=asc", "?limit=2", "?offset=2"]
    for query in queries:
        ids, total = listed(client, alice, query)
        assert set(ids) <= set(mine), query
        assert total == 3, query
    assert listed(client, bob) == ([other], 1)
    assert client.get(f"{TASKS}?limit=2", headers=bob).json["has_more"] is False  # type: ignore[index]


def test_labels_and_parents_of_others_match_nothing(client: CheckedClient, alice: Headers, bob: Headers) -> None:
    labelled = MANIFEST.replace("{name: A task}", "{name: A task, labels: {team: red}}")
    parent = submit(client, bob, labelled)
    submit(client, bob, MANIFEST + f"parent_id: {parent}\n")
    for query in ("?label.team=red", f"?parent_id={parent}", "?label.team=red&state=pending"):
        assert listed(client, alice, query) == ([], 0)
        assert listed(client, bob, query)[1] == 1


def test_who_reaches_everybodys_sees_all_and_whose_they_are(
    client: CheckedClient, product: Product, alice: Headers, bob: Headers
) -> None:
    ids = {submit(client, alice): "alice", submit(client, bob): "bob"}
    for scope in (Scope.TASK_READ_ALL, Scope.ADMIN):
        body = client.get(TASKS, headers=headers_of(product, "carol", scope)).json
        assert body is not None
        assert {one["id"]: one["owner"] for one in body["tasks"]} == ids


def test_tasks_of_open_times_are_the_administrators(client: CheckedClient, product: Product) -> None:
    task_id = client.task()
    alice = headers_of(product, "alice")
    assert listed(client, alice) == ([], 0)
    assert_error(client.get(f"{TASKS}/{task_id}", headers=alice), 404, "task_not_found")
    admin = headers_of(product, "root", Scope.ADMIN)
    assert listed(client, admin) == ([task_id], 1)


def test_a_taken_id_is_refused_without_a_word_about_anothers_task(
    client: CheckedClient, product: Product, alice: Headers, bob: Headers
) -> None:
    submit(client, alice, named("deploy"))
    body = assert_error(client.submit(named("deploy"), headers=bob), 409, "duplicate_task_id")
    assert set(body) == {"error", "message", "request_id"}
    for word in ("pending", "alice"):
        assert word not in str(body["message"])
    own = assert_error(client.submit(named("deploy"), headers=alice), 409, "duplicate_task_id")
    assert own["existing_task"]["state"] == "pending"  # type: ignore[index]
    admin = headers_of(product, "root", Scope.ADMIN)
    assert assert_error(client.submit(named("deploy"), headers=admin), 409, "duplicate_task_id")["existing_task"]


def test_idempotency_keys_are_each_owners_own(client: CheckedClient, alice: Headers, bob: Headers) -> None:
    key = {"Idempotency-Key": "nightly"}
    mine = client.submit(headers={**alice, **key}).json["task_id"]  # type: ignore[index]
    theirs = client.submit(MANIFEST.replace("A task", "Another"), headers={**bob, **key})
    assert theirs.status_code == 202, "bob's key is not alice's: neither her task nor 422 for another body"
    assert theirs.json["task_id"] != mine  # type: ignore[index]
    assert client.submit(headers={**alice, **key}).json["task_id"] == mine  # type: ignore[index]
    assert_error(client.submit(headers={**bob, **key}), 422, "idempotency_key_reused")


@pytest.mark.parametrize("key", ["alice\tnightly", "alice nightly", "alicenightly"])
def test_no_key_of_one_owner_spells_one_of_another(
    client: CheckedClient, alice: Headers, bob: Headers, key: str
) -> None:
    mine = client.submit(headers={**alice, "Idempotency-Key": "nightly"}).json["task_id"]  # type: ignore[index]
    theirs = client.submit(headers={**bob, "Idempotency-Key": key}).json["task_id"]  # type: ignore[index]
    assert mine != theirs


def test_anothers_task_is_no_parent_and_is_refused_like_one_that_never_was(
    client: CheckedClient, alice: Headers, bob: Headers
) -> None:
    parent = submit(client, alice, named("hers"))
    told = []
    for one in (parent, "no-such-task"):
        body = assert_error(client.submit(MANIFEST + f"parent_id: {one}\n", headers=bob), 400, "invalid_manifest")
        told.append(str(body["message"]).replace(one, "ID") + str(body["details"]).replace(one, "ID"))
    assert told[0] == told[1]
    child = submit(client, bob)
    patched = client.post(f"{TASKS}/{child}/rerun", json={"parent_id": parent}, headers=bob)
    assert_error(patched, 400, "invalid_manifest")


def test_cancelling_with_children_spares_those_of_others(
    client: CheckedClient, product: Product, alice: Headers
) -> None:
    parent = submit(client, alice, named("parent"))
    mine = submit(client, alice, named("mine", "parent_id: parent\n"))
    everybodys = headers_of(product, "carol", Scope.TASK_CREATE, Scope.TASK_READ_ALL)
    theirs = submit(client, everybodys, named("theirs", "parent_id: parent\n"))
    assert client.delete(f"{TASKS}/{parent}?children=true", headers=alice).status_code == 200
    state = {one: client.get(f"{TASKS}/{one}", headers=everybodys).json["state"] for one in (mine, theirs)}  # type: ignore[index]
    assert state == {mine: "cancelled", theirs: "pending"}


def test_a_rerun_belongs_to_who_asks_for_it(client: CheckedClient, product: Product, alice: Headers) -> None:
    original = submit(client, alice)
    admin = headers_of(product, "root", Scope.ADMIN)
    again = client.post(f"{TASKS}/{original}/rerun", headers=admin).json["task_id"]  # type: ignore[index]
    assert client.get(f"{TASKS}/{again}", headers=admin).json["owner"] == "root"  # type: ignore[index]
    assert client.get(f"{TASKS}/{again}", headers=alice).status_code == 404


def test_a_cancellation_names_the_owner_and_the_token(client: CheckedClient, alice: Headers) -> None:
    task_id = submit(client, alice)
    client.delete(f"{TASKS}/{task_id}", headers=alice)
    body = client.get(f"{TASKS}/{task_id}", headers=alice).json
    assert body is not None
    assert body["cancel"]["requested_by"] == "alice (token alices)"


def test_a_worker_names_the_tasks_that_one_may_read_and_counts_all(
    client: CheckedClient, product: Product, host: BuildHost, alice: Headers, bob: Headers
) -> None:
    mine, theirs = submit(client, alice), submit(client, bob)
    for task_id in (mine, theirs):
        host.run(task_id)
    reader = headers_of(product, "alice", Scope.WORKER_READ)
    (worker,) = client.get("/api/v1/workers", headers=reader).json["workers"]  # type: ignore[index]
    assert (worker["task_ids"], worker["task_count"]) == ([mine], 2)
    admin = headers_of(product, "root", Scope.ADMIN)
    worker = client.post("/api/v1/workers/host-1/drain", headers=admin).json
    assert worker is not None
    assert (worker["task_ids"], worker["state"]) == (sorted([mine, theirs]), "draining")


def test_no_answer_to_another_owner_holds_what_a_task_is_called(
    client: CheckedClient, product: Product, alice: Headers, host: BuildHost
) -> None:
    """A name nobody could guess, and every list another owner may read."""
    submit(client, alice, named("canary-7531"))
    fleet = headers_of(product, "bob", Scope.TASK_READ, Scope.WORKER_READ)
    for path in (TASKS, f"{TASKS}?label.team=red", "/api/v1/workers", "/api/v1/workers/host-1", "/metrics"):
        assert "canary-7531" not in client.get(path, headers=fleet).text
