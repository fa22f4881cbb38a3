"""The audit trail: every call that changes something, and nothing that a failing store could break."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest
from flask import Flask

from api import trail
from api.parts import KEY, Parts
from api.trail import Trail
from orchestrator import clock
from orchestrator.access import Scope
from orchestrator.product import Product
from orchestrator.store import audit
from orchestrator.store.audit import Entry
from orchestrator.store.database import StoreUnavailable
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import MANIFEST, BuildHost
from tests.integration.api.tokens import make
from tests.integration.api.waiting import eventually

TASKS = "/api/v1/tasks"
Entries = Callable[[], list[Entry]]


@pytest.fixture
def entries(app: Flask, product: Product) -> Entries:
    """What the trail holds of requests, once everything that was added is written."""

    def read() -> list[Entry]:
        parts: Parts = app.extensions[KEY]
        parts.trail.flush(30)
        with product.database.read() as tx:
            return [one for one in audit.find(tx) if not one.action.startswith("token.")]

    return read


def test_every_change_is_kept_with_who_what_where_and_what_came_of_it(
    client: CheckedClient, product: Product, host: BuildHost, entries: Entries
) -> None:
    token_id, alice = make(product, "alice", Scope.ADMIN)
    far = {"REMOTE_ADDR": "203.0.113.9"}
    task_id = client.submit(headers=alice, environ_base=far).json["task_id"]  # type: ignore[index]
    client.delete(f"{TASKS}/{task_id}", headers={**alice, "X-Request-Id": "mine-1"})
    client.delete(f"{TASKS}/{task_id}", headers=alice)
    client.delete(f"{TASKS}/{task_id}/data", headers=alice)
    client.post(f"{TASKS}/{task_id}/rerun", headers=alice)
    client.post("/api/v1/workers/host-1/drain", headers=alice)
    client.post("/api/v1/workers/host-1/resume", headers=alice)
    client.delete("/api/v1/workers/host-1", headers=alice)
    found = entries()
    assert [(one.action, one.subject, one.status) for one in found] == [
        ("task.submit", task_id, 202),
        ("task.cancel", task_id, 200),
        ("task.cancel", task_id, 409),
        ("task.purge", task_id, 204),
        ("task.rerun", task_id, 202),
        ("worker.drain", "host-1", 200),
        ("worker.resume", "host-1", 200),
        ("worker.remove", "host-1", 409),
    ]
    assert {(one.token, one.owner) for one in found} == {(token_id, "alice")}
    assert [one.remote for one in found[:2]] == ["203.0.113.9", "127.0.0.1"]
    assert found[1].request_id == "mine-1"


def test_what_is_refused_for_its_scope_or_its_owner_is_kept_and_reading_is_not(
    client: CheckedClient, product: Product, entries: Entries
) -> None:
    _, alice = make(product, "alice", Scope.TASK_READ, Scope.TASK_CANCEL)
    client.get(TASKS, headers=alice)
    client.get(f"{TASKS}/t", headers=alice)
    client.submit(headers=alice)
    client.delete(f"{TASKS}/someones", headers=alice)
    assert [(one.action, one.subject, one.status) for one in entries()] == [
        ("task.submit", None, 403),
        ("task.cancel", "someones", 404),
    ]


def test_who_has_no_token_writes_nothing_into_the_store(
    client: CheckedClient, product: Product, entries: Entries, caplog: pytest.LogCaptureFixture
) -> None:
    make(product)
    with caplog.at_level(logging.INFO, logger="api.app"):
        for _ in range(3):
            assert client.submit().status_code == 401
    assert entries() == []
    told = [record for record in caplog.records if record.message == "request"]
    assert [(record.status, record.remote) for record in told] == [(401, "127.0.0.1")] * 3  # type: ignore[attr-defined]


def test_an_open_api_keeps_where_from(client: CheckedClient, entries: Entries) -> None:
    task_id = client.task()
    (one,) = entries()
    assert (one.token, one.owner, one.remote, one.subject) == (None, None, "127.0.0.1", task_id)


def test_what_somebody_wrote_cannot_steer_the_terminal_of_who_reads_the_trail(
    client: CheckedClient, entries: Entries
) -> None:
    client.delete(f"{TASKS}/%1b[2J%0d%0aFAKE{'x' * 1000}")
    (one,) = entries()
    assert one.subject is not None
    assert one.subject.isprintable()
    assert len(one.subject) == audit.LONGEST


def test_a_store_that_is_away_costs_an_answer_nothing_and_the_log_has_the_entry(
    client: CheckedClient,
    product: Product,
    app: Flask,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def gone(*_: object) -> None:
        raise StoreUnavailable("away for this test")

    task_id = client.task()
    app.extensions[KEY].trail.flush(30)
    monkeypatch.setattr(trail.audit, "insert", gone)
    assert client.delete(f"{TASKS}/{task_id}").status_code == 200
    app.extensions[KEY].trail.flush(30)
    (told,) = [record for record in caplog.records if record.message == "audit entry not stored"]
    assert (told.entry["action"], told.entry["subject"]) == ("task.cancel", task_id)  # type: ignore[attr-defined]
    monkeypatch.undo()
    client.task()
    app.extensions[KEY].trail.flush(30)
    with product.database.read() as tx:
        assert [one.action for one in audit.find(tx)] == ["task.submit", "task.submit"]


def test_a_writer_that_hangs_holds_up_no_answer_and_what_is_too_much_goes_to_the_log(
    client: CheckedClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, product: Product
) -> None:
    hangs, go_on = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        hangs.set()
        go_on.wait(60)

    monkeypatch.setattr(trail, "MOST_WAITING", 2)
    monkeypatch.setattr(trail.audit, "insert", slow)
    small = Trail(product.database)
    entry = Entry(clock.now(), None, None, "here", "task.submit", None, 202, "r")
    small.add(entry)
    eventually("it hangs", hangs.is_set)
    for _ in range(4):
        small.add(entry)
    assert sum(record.message == "audit entry not stored" for record in caplog.records) == 2
    go_on.set()
    small.flush(30)


def test_a_bad_manifest_is_kept_and_a_dry_run_is_not(client: CheckedClient, entries: Entries) -> None:
    client.submit("nonsense")
    for text in (MANIFEST, "nonsense"):
        client.post(f"{TASKS}?dry_run=true", data=text, content_type="text/yaml")
    assert [(one.subject, one.status) for one in entries()] == [(None, 400)]


def test_each_child_that_is_cancelled_has_an_entry_of_its_own(
    client: CheckedClient, host: BuildHost, entries: Entries
) -> None:
    parent = client.task()
    ended, waits, runs = (
        client.submit(MANIFEST + f"parent_id: {parent}\n").json["task_id"]  # type: ignore[index]
        for _ in range(3)
    )
    host.exit(host.run(ended))
    host.run(runs)
    client.delete(f"{TASKS}/{parent}?children=true&wait=0", headers={"X-Request-Id": "all-of-them"})
    found = [one for one in entries() if one.action == "task.cancel"]
    assert {(one.subject, one.status) for one in found} == {(waits, 200), (runs, 202), (parent, 200)}
    assert len(found) == 3
    assert {one.request_id for one in found} == {"all-of-them"}
