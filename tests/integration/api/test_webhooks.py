"""Webhooks by REST: made, listed, shown without their secret, deleted; the log of what they were sent."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import Flask

from api.parts import KEY, Parts
from orchestrator.access import USUAL, Scope
from orchestrator.product import Product
from orchestrator.store import audit
from orchestrator.webhooks.notifier import Notifier
from orchestrator.webhooks.signing import headers as signed
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import MANIFEST, BuildHost
from tests.integration.api.live import LiveServer
from tests.integration.api.test_errors import assert_error
from tests.integration.api.tokens import Headers, headers_of
from tests.integration.api.waiting import eventually
from tests.servers.receiver import Receiver, receiving

WEBHOOKS = "/api/v1/webhooks"
URL = "https://hooks.example.org/sandbox"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYq="
READER = (Scope.TASK_CREATE, Scope.TASK_READ_ALL)


@pytest.fixture
def product(product: Product) -> Product:
    """Of an operator who has opened loopback, where the tests' receivers are."""
    return replace(product, settings=replace(product.settings, webhook_private_cidrs=("127.0.0.1/32",)))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def notifier(product: Product) -> Iterator[Notifier]:
    running = Notifier(product)
    running.start()
    yield running
    running.stop()


def made(client: CheckedClient, headers: Headers | None = None, **wanted: Any) -> dict[str, Any]:
    response = client.post(WEBHOOKS, json={"url": URL, **wanted}, headers=headers)
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json  # type: ignore[assignment]
    assert response.headers["Location"] == f"{WEBHOOKS}/{found['id']}"
    return found


def got(client: CheckedClient, path: str, headers: Headers | None = None) -> Any:
    response = client.get(path, headers=headers)
    assert response.status_code == 200, response.text
    return response.json


def submitted(client: CheckedClient, notify: Any, headers: Headers | None = None) -> str:
    response = client.submit(f"{MANIFEST}notify: {json.dumps(notify)}\n", headers=headers)
    assert response.status_code == 202, response.text
    return str(response.json["task_id"])  # type: ignore[index]


def test_a_secret_that_the_server_makes_is_told_once_and_one_that_is_given_never(client: CheckedClient) -> None:
    one, other = made(client), made(client, secret=SECRET)
    assert one["secret"].startswith("whsec_")
    assert "secret" not in other
    for known in (one, other):
        shown = got(client, f"{WEBHOOKS}/{known['id']}")
        assert shown == {key: value for key, value in known.items() if key != "secret"}
        assert shown["signed"] is True
    everything = client.get(WEBHOOKS).text
    assert one["secret"] not in everything
    assert SECRET not in everything


def test_a_webhook_is_for_ends_of_all_tasks_unless_it_says_what_else(client: CheckedClient) -> None:
    assert (made(client)["events"], made(client)["labels"]) == (["terminal"], {})
    wanted = {"events": ["artifact", "state_change", "artifact"], "labels": {"team": "a"}}
    one = made(client, **wanted)
    assert (one["events"], one["labels"], one["task_id"]) == (["state_change", "artifact"], {"team": "a"}, None)


BAD = [
    ("url", {}),
    ("url", {"url": ""}),
    ("url", {"url": None}),
    ("url", {"url": 7}),
    ("url", {"url": "ftp://hooks.example.org"}),
    ("url", {"url": "https://user:password@hooks.example.org"}),
    ("url", {"url": "http://169.254.169.254/"}),
    ("url", {"url": "http://127.0.0.2/"}),
    ("events", {"url": URL, "events": []}),
    ("events", {"url": URL, "events": "terminal"}),
    ("events", {"url": URL, "events": ["finished"]}),
    ("events", {"url": URL, "events": [["terminal"]]}),
    ("labels", {"url": URL, "labels": ["team"]}),
    ("labels", {"url": URL, "labels": {"team": 1}}),
    ("labels", {"url": URL, "labels": {f"l{number}": "x" for number in range(65)}}),
    ("secret", {"url": URL, "secret": "short"}),
    ("secret", {"url": URL, "secret": ""}),
    ("secret", {"url": URL, "secret": "[redacted]"}),
    ("secret", {"url": URL, "secret": 7}),
    ("more", {"url": URL, "more": 1}),
]


@pytest.mark.parametrize(("parameter", "body"), BAD)
def test_a_bad_webhook_is_refused_and_none_is_made(client: CheckedClient, parameter: str, body: Any) -> None:
    refusal = assert_error(client.post(WEBHOOKS, json=body), 400, "invalid_parameter")
    assert refusal["details"] == {"parameter": parameter}
    assert "password" not in str(refusal["message"]).replace("a user or a password", "")
    assert got(client, WEBHOOKS)["total_count"] == 0


def test_the_operators_ranges_are_taken_in_both_places(client: CheckedClient) -> None:
    made(client, url="http://127.0.0.1:9000/")
    submitted(client, [{"url": "http://127.0.0.1:9000/"}])


def test_an_owner_has_a_hundred_webhooks_at_most(client: CheckedClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.services.webhooks.MOST_WEBHOOKS", 1)
    made(client)
    assert_error(client.post(WEBHOOKS, json={"url": URL}), 409, "too_many_webhooks")


def test_a_page_of_webhooks_holds_the_newest_first(client: CheckedClient) -> None:
    ids = [made(client)["id"] for _ in range(3)][::-1]
    page = got(client, f"{WEBHOOKS}?limit=2")
    assert [one["id"] for one in page["webhooks"]] == ids[:2]
    assert (page["total_count"], page["limit"], page["offset"], page["has_more"]) == (3, 2, 0, True)
    rest = got(client, f"{WEBHOOKS}?limit=2&offset=2")
    assert [one["id"] for one in rest["webhooks"]] == ids[2:]
    assert rest["has_more"] is False


def test_a_deleted_webhook_is_gone_and_one_that_never_was_is_not_there(client: CheckedClient) -> None:
    webhook_id = made(client)["id"]
    assert client.delete(f"{WEBHOOKS}/{webhook_id}").status_code == 204
    for gone in (webhook_id, "wh_never"):
        assert_error(client.get(f"{WEBHOOKS}/{gone}"), 404, "webhook_not_found")
        assert_error(client.delete(f"{WEBHOOKS}/{gone}"), 404, "webhook_not_found")
        assert_error(client.get(f"{WEBHOOKS}/{gone}/deliveries"), 404, "webhook_not_found")
        assert_error(client.post(f"{WEBHOOKS}/{gone}/deliveries/1/redeliver"), 404, "webhook_not_found")


@pytest.mark.parametrize("number", ["0", "1", "-1", "x", "1.0", "٣", "9" * 30])
def test_a_delivery_that_there_is_not_cannot_be_sent_again(client: CheckedClient, number: str) -> None:
    webhook_id = made(client)["id"]
    response = client.post(f"{WEBHOOKS}/{webhook_id}/deliveries/{number}/redeliver")
    assert_error(response, 404, "delivery_not_found")


def test_whoever_may_see_a_webhook_only_its_maker_and_an_administrator_change_it(
    client: CheckedClient, product: Product
) -> None:
    alice, bob = headers_of(product, "alice"), headers_of(product, "bob")
    reader, admin = headers_of(product, "carol", *READER), headers_of(product, "root", Scope.ADMIN)
    webhook_id = made(client, alice)["id"]
    theirs = made(client, reader)
    assert (theirs["owner"], theirs["created_by"]) == (None, "carol")
    sees = {"alice": 1, "bob": 0, "reader": 2, "admin": 2}
    for name, headers in {"alice": alice, "bob": bob, "reader": reader, "admin": admin}.items():
        assert got(client, WEBHOOKS, headers)["total_count"] == sees[name], name
    assert_error(client.get(f"{WEBHOOKS}/{theirs['id']}", headers=alice), 404, "webhook_not_found")
    for headers in (bob, reader):
        assert_error(client.delete(f"{WEBHOOKS}/{webhook_id}", headers=headers), 404, "webhook_not_found")
        again = client.post(f"{WEBHOOKS}/{webhook_id}/deliveries/1/redeliver", headers=headers)
        assert_error(again, 404, "webhook_not_found")
    assert client.delete(f"{WEBHOOKS}/{theirs['id']}", headers=admin).status_code == 204
    assert client.delete(f"{WEBHOOKS}/{webhook_id}", headers=alice).status_code == 204


def test_somebody_elses_webhook_answers_as_one_that_never_was(client: CheckedClient, product: Product) -> None:
    webhook_id, bob = made(client, headers_of(product, "alice"))["id"], headers_of(product, "bob")
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/deliveries"), ("POST", "/deliveries/1/redeliver")):
        answers = [client.open(f"{WEBHOOKS}/{one}{path}", method=method, headers=bob) for one in (webhook_id, "wh_0")]
        bodies = [
            answer.text.replace(one, "ID").replace(answer.headers["X-Request-Id"], "REQUEST")
            for answer, one in zip(answers, (webhook_id, "wh_0"), strict=True)
        ]
        assert bodies[0] == bodies[1]
        assert {answer.status_code for answer in answers} == {404}


def test_the_webhooks_of_a_manifest_are_listed_with_their_task_to_who_may_read_it(
    client: CheckedClient, product: Product
) -> None:
    alice, bob = headers_of(product, "alice"), headers_of(product, "bob")
    task_id = submitted(client, [{"url": URL, "events": ["artifact"]}, {"url": URL, "secret": SECRET}], alice)
    page = got(client, f"{WEBHOOKS}?task_id={task_id}", alice)
    assert {(one["task_id"], *one["events"], one["signed"], one["created_by"]) for one in page["webhooks"]} == {
        (task_id, "artifact", False, "alice"),
        (task_id, "terminal", True, "alice"),
    }
    assert got(client, WEBHOOKS, alice)["total_count"] == 0
    assert got(client, f"{WEBHOOKS}?task_id={task_id}", bob)["total_count"] == 0
    assert got(client, f"{WEBHOOKS}/{page['webhooks'][0]['id']}", alice)["task_id"] == task_id


def test_no_answer_shows_the_signing_secret_of_a_manifest_and_a_shown_one_cannot_be_sent_back(
    client: CheckedClient, product: Product
) -> None:
    notify = [{"url": URL, "secret": SECRET}]
    manifest = f"{MANIFEST}notify: {json.dumps(notify)}\n"
    dry = client.submit(manifest, query_string={"dry_run": "true"})
    task_id = submitted(client, notify)
    rerun_id = client.post(f"/api/v1/tasks/{task_id}/rerun").json["task_id"]  # type: ignore[index]
    answers = [dry, *(client.get(f"/api/v1/tasks/{one}") for one in (task_id, rerun_id)), client.get("/api/v1/tasks")]
    assert not any(SECRET in answer.text for answer in answers)
    shown = answers[1].json["definition"]  # type: ignore[index]
    assert shown["notify"] == [{"url": URL, "events": ["terminal"], "secret": "[redacted]"}]
    assert dry.json["notify"] == shown["notify"]  # type: ignore[index]
    refused = client.submit(json.dumps({**shown, "metadata": {"name": "again"}}))
    (error,) = assert_error(refused, 400, "invalid_manifest")["errors"]
    assert error["pointer"] == "/notify/0/secret"
    patched = client.post(f"/api/v1/tasks/{task_id}/rerun", json={"notify": shown["notify"]})
    assert_error(patched, 400, "invalid_manifest")
    with product.database.read() as tx:
        kept = tx.exec_driver_sql("SELECT count(*) FROM webhooks WHERE secret = ?", (SECRET,)).scalar()
    assert kept == 2


def test_what_happens_to_a_task_is_delivered_signed_and_told_in_the_log(
    client: CheckedClient, host: BuildHost, receiver: Receiver, notifier: Notifier
) -> None:
    webhook = made(client, url=receiver.url, events=["state_change", "terminal"], labels={"team": "a"})
    client.task()
    task_id = client.task(labels="{team: a}")
    host.exit(host.run(task_id), 3)
    path = f"{WEBHOOKS}/{webhook['id']}/deliveries"
    eventually(
        "all is delivered", lambda: [one["state"] for one in got(client, path)["deliveries"]] == ["delivered"] * 8
    )
    by_id = {one.id: one for one in receiver.received}
    for told in got(client, path)["deliveries"]:
        request = by_id[told["id"]]
        assert request.told == told["body"]
        assert request.told["data"]["task"]["id"] == task_id
        assert (told["tries"], told["last_status"], told["last_error"]) == (1, 204, None)
        at = int(request.headers["webhook-timestamp"])
        wanted = signed(request.id, datetime.fromtimestamp(at, UTC), request.body, webhook["secret"])
        assert request.headers["webhook-signature"] == wanted["webhook-signature"]
    end = next(one for one in got(client, path)["deliveries"] if one["event"] == "terminal")
    assert end["body"]["data"]["task"]["outcome"] == got(client, f"/api/v1/tasks/{task_id}")["outcome"]
    assert 'sandbox_webhook_tries_total{result="delivered"}' in client.get("/metrics").text
    page = got(client, f"{path}?limit=3&offset=1")
    assert [one["number"] for one in page["deliveries"]] == [7, 6, 5]
    assert (page["total_count"], page["has_more"]) == (8, True)


def test_a_delivery_that_failed_says_why_and_is_sent_again_when_asked(
    client: CheckedClient, receiver: Receiver, notifier: Notifier
) -> None:
    receiver.answer = lambda _request: 500
    task_id = submitted(client, [{"url": receiver.url, "events": ["state_change"]}])
    (webhook,) = got(client, f"{WEBHOOKS}?task_id={task_id}")["webhooks"]
    path = f"{WEBHOOKS}/{webhook['id']}"

    def last() -> dict[str, Any]:
        found = got(client, f"{path}/deliveries")["deliveries"]
        return found[0] if found else {"tries": 0}

    eventually("it was tried", lambda: last()["tries"] == 1)
    assert (last()["state"], last()["last_status"]) == ("waiting", 500)
    assert last()["last_error"] == "the receiver answered 500"
    assert last()["next_at"] > last()["tried_at"]
    assert got(client, path)["failing_since"]
    receiver.answer = lambda _request: 200
    response = client.post(f"{path}/deliveries/{last()['number']}/redeliver")
    assert (response.status_code, response.json["number"]) == (202, last()["number"])  # type: ignore[index]
    eventually("it is delivered", lambda: last()["state"] == "delivered")
    assert got(client, path)["failing_since"] is None
    assert len({one.id for one in receiver.received}) == 1


def test_changes_of_webhooks_are_in_the_audit_trail(client: CheckedClient, app: Flask, product: Product) -> None:
    alice = headers_of(product, "alice", *USUAL)
    webhook_id = made(client, alice)["id"]
    client.post(f"{WEBHOOKS}/{webhook_id}/deliveries/1/redeliver", headers=alice)
    client.delete(f"{WEBHOOKS}/{webhook_id}", headers=alice)
    parts: Parts = app.extensions[KEY]
    parts.trail.flush(30)
    with product.database.read() as tx:
        found = [(one.action, one.subject, one.status) for one in audit.find(tx) if one.action.startswith("webhook.")]
    assert found == [
        ("webhook.create", webhook_id, 201),
        ("webhook.redeliver", webhook_id, 404),
        ("webhook.delete", webhook_id, 204),
    ]


def test_a_token_that_only_reads_makes_no_webhook(client: CheckedClient, product: Product) -> None:
    for scopes, missing in (((Scope.TASK_READ,), "task:create"), ((Scope.TASK_CREATE,), "task:read")):
        refused = client.post(WEBHOOKS, json={"url": URL}, headers=headers_of(product, "alice", *scopes))
        assert assert_error(refused, 403, "forbidden")["details"] == {"missing_scope": missing}


def test_a_server_that_is_killed_while_it_delivers_is_followed_by_one_that_delivers_under_the_same_id(
    empty_data_dir: Path, tmp_path: Path, receiver: Receiver
) -> None:
    shutil.copytree(empty_data_dir, tmp_path / "data")
    server = LiveServer(tmp_path / "data", environment={"SANDBOX_WEBHOOK_PRIVATE_CIDRS": "127.0.0.1/32"})
    killed = threading.Event()
    receiver.answer = lambda _request: 204 if killed.wait(60) else 500
    server.start()
    try:
        manifest = f'{MANIFEST}notify: [{{url: "{receiver.url}", events: [state_change]}}]\n'
        kind = {"Content-Type": "application/yaml"}
        submission = httpx.post(f"{server.url}/api/v1/tasks", content=manifest, headers=kind)
        task_id = submission.json()["task_id"]
        eventually("the delivery is under way", lambda: receiver.received)
        os.kill(server.workers()[0], signal.SIGKILL)
        killed.set()
        eventually("it was delivered again", lambda: len(receiver.received) == 2)
        eventually("the server answers again", server.answers)
        (webhook,) = httpx.get(f"{server.url}{WEBHOOKS}?task_id={task_id}").json()["webhooks"]

        def states() -> list[str]:
            found = httpx.get(f"{server.url}{WEBHOOKS}/{webhook['id']}/deliveries").json()["deliveries"]
            return [one["state"] for one in found]

        eventually("it is told as delivered", lambda: states() == ["delivered"])
    finally:
        server.stop()
    assert len({one.id for one in receiver.received}) == 1
    assert "Traceback" not in server.log
