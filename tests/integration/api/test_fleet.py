"""What operators do with workers through REST; each answer is held against the OpenAPI document."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from orchestrator import clock
from orchestrator.models import WorkerState
from orchestrator.product import Product
from orchestrator.services import fleet
from orchestrator.store import workers
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import BuildHost, broker_of
from tests.integration.api.test_errors import assert_error

WORKERS = "/api/v1/workers"


def shown(client: CheckedClient, name: str = "host-1") -> dict[str, Any]:
    response = client.get(f"{WORKERS}/{name}")
    assert response.status_code == 200, response.text
    return dict(response.json)  # type: ignore[call-overload]


def lost(product: Product, name: str) -> None:
    with product.database.write() as tx:
        workers.set_state(tx, name, WorkerState.LOST)


def test_the_fleet_shows_capacity_and_what_is_held(client: CheckedClient, host: BuildHost) -> None:
    BuildHost(host.product, "host-2").register(slots=2, cpus=4)
    client.task()
    body = client.get(WORKERS).json
    assert body
    first, second = body["workers"]
    assert [first["name"], second["name"]] == ["host-1", "host-2"]
    assert first["capacity"] == {"slots": 100, "cpus": 32, "memory_bytes": 64 << 30, "disk_bytes": 500 << 30}
    assert first["used"]["slots"] + second["used"]["slots"] == 1
    assert max(first["used"]["memory_bytes"], second["used"]["memory_bytes"]) == 256 << 20
    fleet.stop(host.product, "host-2", 0)
    assert client.get(WORKERS).json["workers"][1]["state"] == "stopped"  # type: ignore[index]


def test_one_worker_shows_the_tasks_it_owns_and_not_those_it_has_not_begun(
    client: CheckedClient, host: BuildHost
) -> None:
    begun, placed = client.task(), client.task()
    host.run(begun)
    worker = shown(client)
    assert worker["task_ids"] == [begun]
    assert worker["used"]["slots"] == 2
    assert (worker["state"], worker["draining"], worker["drain_until"]) == ("active", False, None)
    assert client.get(WORKERS).json == {"workers": [worker]}
    assert placed not in worker["task_ids"]


def test_a_draining_worker_finishes_what_it_has_and_takes_nothing_new(client: CheckedClient, host: BuildHost) -> None:
    begun, placed = client.task(), client.task()
    claim = host.run(begun)
    answer = client.post(f"{WORKERS}/host-1/drain").json
    assert answer
    assert (answer["state"], answer["draining"], answer["drain_until"]) == ("draining", True, None)
    assert answer["task_ids"] == [begun]
    assert answer["used"]["slots"] == 1  # what it had not begun is not its own any more
    later = client.task()
    for waiting in (placed, later):
        task = client.get(f"/api/v1/tasks/{waiting}").json
        assert task["worker"] is None  # type: ignore[index]
        assert "draining" in task["state_message"]  # type: ignore[index]
    host.exit(claim)
    assert shown(client)["state"] == "drained"
    assert client.post(f"{WORKERS}/host-1/resume").json["state"] == "active"  # type: ignore[index]
    assert client.get(f"/api/v1/tasks/{later}").json["worker"] == "host-1"  # type: ignore[index]
    assert ("host-1", placed, 1) in broker_of(host.product).attempts


@pytest.mark.parametrize(
    ("query", "body"),
    [({"deadline": "30m"}, None), ({}, {"deadline": "30m"}), ({"deadline": "1s"}, {"deadline": "30m"})],
)
def test_a_deadline_comes_in_the_query_or_in_the_body_which_wins(
    client: CheckedClient, host: BuildHost, query: dict[str, str], body: dict[str, str] | None
) -> None:
    before = clock.now()
    answer = client.post(f"{WORKERS}/host-1/drain", query_string=query, **({"json": body} if body else {})).json
    assert answer
    until = datetime.fromisoformat(answer["drain_until"])
    assert before <= until - timedelta(minutes=30) <= clock.now()
    again = client.post(f"{WORKERS}/host-1/drain", json={"deadline": None}).json
    assert again
    assert again["drain_until"] is None


@pytest.mark.parametrize(
    ("query", "body", "parameter"),
    [
        ({"deadline": "soon"}, None, "deadline"),
        ({"deadline": "soon"}, {"deadline": "30m"}, "deadline"),
        ({"deadline": "soon"}, {"deadline": None}, "deadline"),
        ({"deadline": ""}, None, "deadline"),
        ({"deadline": "8761h"}, None, "deadline"),
        ({"deadline": "999999999h"}, None, "deadline"),
        ({}, {"deadline": 30}, "deadline"),
        ({}, {"deadline": ["30m"]}, "deadline"),
        ({}, {"deadlin": "30m"}, "deadlin"),
        ({}, [1], "body"),
    ],
)
def test_a_bad_deadline_is_refused_and_nothing_drains(
    client: CheckedClient, host: BuildHost, query: dict[str, str], body: object, parameter: str
) -> None:
    response = client.post(f"{WORKERS}/host-1/drain", query_string=query, **({"json": body} if body else {}))  # type: ignore[arg-type]
    assert assert_error(response, 400, "invalid_parameter")["details"] == {"parameter": parameter}
    assert shown(client)["draining"] is False


def test_a_drain_goes_on_when_its_worker_stops_or_is_lost_and_when_it_registers_again(
    client: CheckedClient, host: BuildHost
) -> None:
    client.post(f"{WORKERS}/host-1/drain")
    fleet.stop(host.product, "host-1", 0)
    assert (shown(client)["state"], shown(client)["draining"]) == ("stopped", True)
    lost(host.product, "host-1")
    assert (shown(client)["state"], shown(client)["draining"]) == ("lost", True)
    host.register()
    assert shown(client)["state"] == "drained"


def test_a_worker_that_is_active_is_not_removed_even_by_force(client: CheckedClient, host: BuildHost) -> None:
    for query in ({}, {"force": "true"}):
        body = assert_error(client.delete(f"{WORKERS}/host-1", query_string=query), 409, "worker_in_use")
        assert "sandbox workers drain host-1 --wait" in str(body["message"])
    assert shown(client)["state"] == "active"


def test_a_worker_that_owns_tasks_is_removed_by_force_alone_and_they_end_as_lost(
    client: CheckedClient, host: BuildHost
) -> None:
    task_id = client.task()
    host.run(task_id)
    fleet.stop(host.product, "host-1", 3600)
    body = assert_error(client.delete(f"{WORKERS}/host-1"), 409, "worker_in_use")
    assert task_id in str(body["message"])
    assert client.get(f"/api/v1/tasks/{task_id}").json["state"] == "running"  # type: ignore[index]
    assert client.delete(f"{WORKERS}/host-1?force=true").status_code == 204
    task = client.get(f"/api/v1/tasks/{task_id}").json
    assert task
    assert (task["state"], task["outcome"]["reason"]) == ("failed", "worker_lost")
    assert client.get(WORKERS).json == {"workers": []}


def test_a_worker_that_stopped_and_owns_nothing_is_removed_and_may_register_again(
    client: CheckedClient, host: BuildHost
) -> None:
    fleet.stop(host.product, "host-1", 0)
    assert client.delete(f"{WORKERS}/host-1").status_code == 204
    assert_error(client.delete(f"{WORKERS}/host-1"), 404, "worker_not_found")
    host.register()
    assert shown(client)["state"] == "active"


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("DELETE", ""), ("POST", "/drain"), ("POST", "/resume")])
@pytest.mark.parametrize("name", ["host-9", "a b", "..", "%C3%A9", "x" * 300])
def test_a_worker_that_is_not_registered_is_not_found(
    client: CheckedClient, host: BuildHost, method: str, path: str, name: str
) -> None:
    body = assert_error(client.open(f"{WORKERS}/{name}{path}", method=method), 404, "worker_not_found")
    assert "no worker named" in str(body["message"])


@pytest.mark.parametrize("force", ["yes", "", "2"])
def test_a_force_that_is_neither_true_nor_false_removes_nothing(
    client: CheckedClient, host: BuildHost, force: str
) -> None:
    fleet.stop(host.product, "host-1", 0)
    assert_error(client.delete(f"{WORKERS}/host-1", query_string={"force": force}), 400, "invalid_parameter")
    assert shown(client)["state"] == "stopped"
