from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.product import Product
from orchestrator.store import workers
from orchestrator.store.database import StoreUnavailable
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import MANIFEST, BuildHost

GIVEN_ID = "build-42.retry_1"


def assert_error(response: object, status: int, error: str) -> dict[str, object]:
    """Every error has the same body, and the request id of its header."""
    assert response.status_code == status, response.text  # type: ignore[attr-defined]
    body: dict[str, object] = response.json  # type: ignore[attr-defined]
    assert body["error"] == error, body
    assert isinstance(body["message"], str)
    assert body["message"]
    assert body["request_id"] == response.headers["X-Request-Id"]  # type: ignore[attr-defined]
    return body


@pytest.mark.parametrize(
    "path",
    [
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v1/task",
        "/api/v1/tasks/",
        "/favicon.ico",
        "/api/v2/tasks",
        "/assets/",
        "/web",
    ],
)
def test_an_unknown_route_is_not_found_in_the_products_own_words(client: CheckedClient, path: str) -> None:
    assert_error(client.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/api/v1/tasks"),
        ("DELETE", "/api/v1/tasks"),
        ("POST", "/api/v1/tasks/some-task"),
        ("GET", "/api/v1/tasks/some-task/data"),
        ("GET", "/api/v1/tasks/some-task/rerun"),
        ("GET", "/api/v1/tasks/some-task/input"),
        ("GET", "/api/v1/tasks/some-task/resume"),
        ("POST", "/api/v1/health"),
        ("PATCH", "/metrics"),
    ],
)
def test_a_method_the_route_does_not_take_is_405_and_names_those_it_takes(
    client: CheckedClient, method: str, path: str
) -> None:
    response = client.open(path, method=method)
    assert_error(response, 405, "method_not_allowed")
    assert response.headers["Allow"]
    assert method not in response.headers["Allow"].split(", ")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("DELETE", "/data"),
        ("POST", "/rerun"),
        ("POST", "/resume"),
        ("GET", "/logs"),
        ("GET", "/logs?follow=true"),
        ("GET", "/artifacts"),
        ("GET", "/artifacts/report.md"),
        ("GET", "/artifacts.tar.gz"),
    ],
)
def test_every_route_of_an_unknown_task_says_that_there_is_none(client: CheckedClient, method: str, path: str) -> None:
    body = assert_error(client.open(f"/api/v1/tasks/no-such-task{path}", method=method), 404, "task_not_found")
    assert "no-such-task" in str(body["message"])


def test_a_nul_in_the_address_finds_nothing(client: CheckedClient) -> None:
    for path in ("/api/v1/tasks/a%00b", "/api/v1/tasks/a%00b/logs", "/%00"):
        assert_error(client.get(path), 404, "not_found")


def test_a_failure_of_the_server_answers_500_and_its_log_has_the_request_id(
    client: CheckedClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the cause, which is nobody's business outside")

    monkeypatch.setattr(workers, "all_of", broken)
    response = client.get("/api/v1/workers")
    body = assert_error(response, 500, "internal_error")
    assert "nobody's business" not in response.text
    failed = next(record for record in caplog.records if record.message == "request failed")
    assert failed.request == body["request_id"]  # type: ignore[attr-defined]
    assert failed.exc_info


def test_a_store_that_does_not_answer_is_503_and_says_when_to_try_again(
    client: CheckedClient, product: Product, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(*_: object) -> None:
        raise StoreUnavailable('connection to "10.1.2.3", port 5432 failed: password of user "builder"')

    monkeypatch.setattr(type(product.database), "read", gone)
    monkeypatch.setattr(type(product.database), "write", gone)
    for response in (
        client.get("/api/v1/tasks"),
        client.submit(),
        client.get("/api/v1/tasks/one"),
        client.delete("/api/v1/tasks/one"),
        client.get("/api/v1/tasks/one/logs"),
        client.get("/metrics"),
    ):
        body = assert_error(response, 503, "service_unavailable")
        assert int(response.headers["Retry-After"]) > 0
        assert not any(word in response.text for word in ("10.1.2.3", "builder"))
        assert "the server's store does not answer; try again" in str(body["message"])
        of_this = [vars(one) for one in caplog.records if vars(one).get("request") == body["request_id"]]
        assert ["builder" in one["why"] for one in of_this if "why" in one] == [True]


def test_a_request_id_is_echoed_on_success_and_on_error(client: CheckedClient) -> None:
    for path in ("/api/v1/tasks", "/api/v1/tasks/none", "/nowhere", "/metrics"):
        response = client.get(path, headers={"X-Request-Id": GIVEN_ID})
        assert response.headers["X-Request-Id"] == GIVEN_ID


@pytest.mark.parametrize("bad", ["", "a b", "x" * 129, "<script>", "é", "a\tb"])
def test_a_request_id_that_is_no_plain_word_is_replaced(client: CheckedClient, bad: str) -> None:
    given = client.get("/api/v1/tasks", headers={"X-Request-Id": bad}).headers["X-Request-Id"]
    assert given
    assert given != bad


def test_request_ids_differ(client: CheckedClient) -> None:
    assert len({client.get("/api/v1/health/live").headers["X-Request-Id"] for _ in range(20)}) == 20


UNKNOWN = [
    ("GET", "/api/v1/tasks"),
    ("POST", "/api/v1/tasks"),
    ("GET", "/api/v1/tasks/stream"),
    ("GET", "/api/v1/tasks/{id}"),
    ("DELETE", "/api/v1/tasks/{id}"),
    ("DELETE", "/api/v1/tasks/{id}/data"),
    ("POST", "/api/v1/tasks/{id}/rerun"),
    ("POST", "/api/v1/tasks/{id}/input"),
    ("POST", "/api/v1/tasks/{id}/resume"),
    ("GET", "/api/v1/tasks/{id}/network"),
    ("GET", "/api/v1/tasks/{id}/logs"),
    ("GET", "/api/v1/tasks/{id}/artifacts"),
    ("GET", "/api/v1/tasks/{id}/artifacts/report.md"),
    ("GET", "/api/v1/tasks/{id}/artifacts.tar.gz"),
    ("GET", "/api/v1/workers"),
    ("GET", "/api/v1/workers/host-1"),
    ("DELETE", "/api/v1/workers/host-1"),
    ("POST", "/api/v1/workers/host-1/drain"),
    ("POST", "/api/v1/workers/host-1/resume"),
    ("GET", "/api/v1/webhooks"),
    ("POST", "/api/v1/webhooks"),
    ("GET", "/api/v1/webhooks/wh-1"),
    ("DELETE", "/api/v1/webhooks/wh-1"),
    ("GET", "/api/v1/webhooks/wh-1/deliveries"),
    ("POST", "/api/v1/webhooks/wh-1/deliveries/1/redeliver"),
    ("GET", "/api/v1/schemas/task"),
    ("GET", "/api/v1/openapi.json"),
    ("GET", "/api/v1/health"),
    ("GET", "/api/v1/health/ready"),
    ("GET", "/api/v1/health/live"),
    ("GET", "/api/health"),
    ("GET", "/metrics"),
]


@pytest.mark.parametrize(("method", "path"), UNKNOWN)
def test_an_unknown_parameter_is_refused_by_every_route_and_nothing_happens(
    client: CheckedClient, method: str, path: str
) -> None:
    task_id = client.task()
    response = client.open(
        path.format(id=task_id), method=method, query_string={"nonsense": "1"}, data=MANIFEST, content_type="text/yaml"
    )
    body = assert_error(response, 400, "invalid_parameter")
    assert body["details"] == {"parameter": "nonsense"}
    assert "nonsense" in str(body["message"])
    assert client.get("/api/v1/tasks").json["total_count"] == 1  # type: ignore[index]
    assert client.get(f"/api/v1/tasks/{task_id}").json["state"] == "pending"  # type: ignore[index]


BAD = [
    ("GET", "/api/v1/tasks", "limit", value)
    for value in ("0", "1001", "-1", "1e3", "1.0", " 1", "+1", "٣", "", "x", str(10**30), "1\x00", "9" * 5000)
]
BAD += [("GET", "/api/v1/tasks", "offset", value) for value in ("-1", str(2**63), str(10**30), "", "all")]
BAD += [("GET", "/api/v1/tasks", "state", value) for value in ("foo", "", "pending,", "PENDING", "pending,foo", "\x00")]
BAD += [("GET", "/api/v1/tasks", "sort", value) for value in ("id", "", "created_at desc", "\x00")]
BAD += [("GET", "/api/v1/tasks", "order", value) for value in ("up", "", "ASC")]
BAD += [("GET", "/api/v1/tasks", "label", value) for value in ("team", "", "a\x00=b", "a=\x00")]
BAD += [("GET", "/api/v1/tasks", "label.team", "a\x00"), ("GET", "/api/v1/tasks", "label.te\x00am", "a")]
BAD += [("GET", "/api/v1/tasks", "parent_id", "x" * 2000), ("GET", "/api/v1/tasks", "parent_id", "\x00")]
BAD += [("POST", "/api/v1/tasks", "dry_run", value) for value in ("yes", "", "2", "\x00")]
BAD += [("DELETE", "/api/v1/tasks/{id}", "wait", value) for value in ("-1", "301", "1.5", "", "x", str(10**30))]
BAD += [("DELETE", "/api/v1/tasks/{id}", "force", value) for value in ("yes", "", "\x00")]
BAD += [("DELETE", "/api/v1/tasks/{id}", "children", value) for value in ("maybe", "", "\x00")]
BAD += [("DELETE", "/api/v1/tasks/{id}", "reason", value) for value in ("x" * 1001, "a\x00b")]
LOGS = "/api/v1/tasks/{id}/logs"
BAD += [("GET", LOGS, "tail", value) for value in ("x", "-1", "", "1.5", str(10**30), "\x00")]
BAD += [("GET", LOGS, "after", value) for value in ("x", "-1", "", str(10**30))]
BAD += [("GET", LOGS, "follow", value) for value in ("yes", "", "on")]
BAD += [("GET", LOGS, "stream", value) for value in ("foo", "", "stdin", "ALL", "all,stdout", "stdout,", "events;x")]
BAD += [("GET", LOGS, "format", value) for value in ("json", "", "raw")]
BAD += [("GET", LOGS, "attempt", value) for value in ("0", "2", "-1", "latest", "", str(10**30), "9" * 5000, "1\x00")]
BAD += [
    ("GET", LOGS, "since", value)
    for value in (
        "yesterday", "", "2026-01-29", "2026-01-29T12:00:00", "1769688000", "\x00",
        "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-02-30T00:00:00Z",
    )
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "name", "value"), BAD)
def test_a_bad_parameter_is_refused_and_nothing_happens(
    client: CheckedClient, method: str, path: str, name: str, value: str
) -> None:
    task_id = client.task()
    response = client.open(
        path.format(id=task_id),
        method=method,
        query_string={name: value},
        **_body(method),  # type: ignore[arg-type]
    )
    body = assert_error(response, 400, "invalid_parameter")
    parameter = "stream" if (name, value) == ("format", "raw") else name.partition(".")[0]
    assert body["details"] == {"parameter": parameter}
    assert client.get("/api/v1/tasks").json["total_count"] == 1  # type: ignore[index]
    assert client.get(f"/api/v1/tasks/{task_id}").json["state"] == "pending"  # type: ignore[index]


def _body(method: str) -> dict[str, str]:
    return {"data": MANIFEST, "content_type": "application/yaml"} if method == "POST" else {}


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        ("/api/v1/tasks", "limit", "5"),
        ("/api/v1/tasks", "state", "pending"),
        ("/api/v1/tasks", "order", "asc"),
        ("/api/v1/tasks", "parent_id", "x"),
        (LOGS, "tail", "1"),
        (LOGS, "follow", "false"),
        (LOGS, "format", "text"),
        (LOGS, "attempt", "all"),
        (LOGS, "since", "2026-01-29T12:00:00Z"),
    ],
)
def test_a_parameter_given_twice_is_refused(client: CheckedClient, path: str, name: str, value: str) -> None:
    response = client.get(path.format(id=client.task()), query_string=[(name, value), (name, value)])
    assert_error(response, 400, "invalid_parameter")


@pytest.mark.parametrize("name", ["LIMIT", "limit ", "limit[]", "limit\x00", "", "é", "label.", "labels"])
def test_a_parameter_name_is_taken_to_the_letter(client: CheckedClient, name: str) -> None:
    response = client.get("/api/v1/tasks", query_string={name: "1"})
    assert response.status_code == (200 if name == "label." else 400)


def test_a_reason_for_each_worker_that_could_never_hold_the_task_comes_with_507(
    client: CheckedClient, host: BuildHost
) -> None:
    body = assert_error(client.submit(MANIFEST.replace("cpus: 1", "cpus: 200")), 507, "insufficient_resources")
    assert body["details"] == {
        "requested_cpus": 200,
        "available_cpus": 32,
        "requested_memory": 256 << 20,
        "available_memory": 64 << 30,
        "requested_disk": 1 << 30,
        "available_disk": 500 << 30,
    }
    assert "host-1" in str(body["message"])
    assert client.get("/api/v1/tasks").json["total_count"] == 0  # type: ignore[index]


def test_a_task_that_only_has_to_wait_is_accepted(client: CheckedClient, product: Product) -> None:
    BuildHost(product).register(slots=1)
    first, second = client.task(), client.task()
    waiting = client.get(f"/api/v1/tasks/{second}").json
    assert waiting["state"] == "pending"  # type: ignore[index]
    assert "all 1 slots are taken" in waiting["state_message"]  # type: ignore[index]
    assert client.get(f"/api/v1/tasks/{first}").json["worker"] == "host-1"  # type: ignore[index]


def test_without_any_worker_a_task_is_accepted_and_says_so(client: CheckedClient) -> None:
    message = client.get(f"/api/v1/tasks/{client.task()}").json["state_message"]  # type: ignore[index]
    assert "no worker is registered" in message


def test_the_same_error_is_told_by_all_servers(
    make_client: Callable[[Product], CheckedClient], product: Product, tmp_path: Path
) -> None:
    for client in (make_client(product), make_client(product)):
        assert_error(client.get("/api/v1/tasks/none"), 404, "task_not_found")
