"""`GET /tasks/{id}/network`: what a task was refused, what it sent, and what an operator may learn from it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.contacts import Contact, EgressRule, Traffic
from orchestrator.models import Claim
from orchestrator.product import Product
from orchestrator.services.expire import forget
from orchestrator.store import attempts, contacts
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import MANIFEST, BuildHost

AT = datetime(2026, 1, 29, 10, 15, tzinfo=UTC)
OUTBOUND = MANIFEST.replace("disk: 1G", "disk: 1G, network_mode: outbound, allowed_hosts: [Api.Example.test]")


def contact(host: str, rule: EgressRule, *, port: int = 443, count: int = 1, minutes: int = 0) -> Contact:
    at = AT + timedelta(minutes=minutes)
    return Contact(host, port, rule, rule is EgressRule.LEARNED, count, at, at)


def save(product: Product, claim: Claim, up: int, down: int, *found: Contact) -> None:
    with product.database.write() as tx:
        contacts.save(tx, claim, "host-1", Traffic(up, down, found))


def test_a_task_that_asked_for_nothing_has_an_empty_report(client: CheckedClient) -> None:
    task_id = client.task()
    assert client.get(f"/api/v1/tasks/{task_id}/network").json == {
        "task_id": task_id,
        "mode": "isolated",
        "allowed_hosts": [],
        "denied": [],
        "bytes_up": 0,
        "bytes_down": 0,
    }


def test_an_unknown_task_has_none(client: CheckedClient) -> None:
    assert client.get("/api/v1/tasks/nobody/network").status_code == 404


def test_denials_of_all_attempts_are_one_entry_for_each_host_port_and_rule(
    client: CheckedClient, host: BuildHost, product: Product
) -> None:
    task_id = client.task()
    first = host.run(task_id)
    save(product, first, 10, 20, contact("b.test", EgressRule.NOT_ALLOWED, count=2))
    again = Claim(task_id, 2, first.fence + 1)
    with product.database.write() as tx:
        attempts.insert(tx, again, "host-1", AT)
    save(
        product, again, 1, 2,
        contact("b.test", EgressRule.NOT_ALLOWED, count=3, minutes=5),
        contact("b.test", EgressRule.PORT, port=22, minutes=6),
    )  # fmt: skip
    report = client.get(f"/api/v1/tasks/{task_id}/network").json
    assert report is not None
    assert (report["bytes_up"], report["bytes_down"]) == (11, 22)
    assert [(one["host"], one["port"], one["rule"], one["count"]) for one in report["denied"]] == [
        ("b.test", 443, "not_allowed", 5),
        ("b.test", 22, "port", 1),
    ]
    assert report["denied"][0]["first_at"] == "2026-01-29T10:15:00.000000Z"
    assert report["denied"][0]["last_at"] == "2026-01-29T10:20:00.000000Z"


def test_what_was_learned_comes_with_the_list_that_allows_it(
    client: CheckedClient, host: BuildHost, product: Product
) -> None:
    host.register()
    task_id = client.task()
    claim = host.run(task_id)
    found = (
        contact("z.test", EgressRule.LEARNED),
        contact("z.test", EgressRule.LEARNED, port=80, minutes=1),
        contact("a.test", EgressRule.LEARNED, port=8443, minutes=2),
        contact("10.0.0.1", EgressRule.SYNTAX, minutes=3),
    )
    save(product, claim, 0, 0, *found)
    report = client.get(f"/api/v1/tasks/{task_id}/network").json
    assert report is not None
    assert report["suggested_allowed_hosts"] == ["a.test:8443", "z.test"]
    assert [one["host"] for one in report["learned"]] == ["z.test", "z.test", "a.test"]
    assert [one["rule"] for one in report["denied"]] == ["syntax"]


def test_allowed_hosts_are_told_in_their_one_spelling(client: CheckedClient) -> None:
    task_id = client.submit(OUTBOUND).json["task_id"]  # type: ignore[index]
    report = client.get(f"/api/v1/tasks/{task_id}/network").json
    assert report is not None
    assert (report["mode"], report["allowed_hosts"]) == ("outbound", ["api.example.test"])


def test_storing_the_same_traffic_again_counts_it_once(
    client: CheckedClient, host: BuildHost, product: Product
) -> None:
    task_id = client.task()
    claim = host.run(task_id)
    for _ in range(2):
        save(product, claim, 100, 1000, contact("b.test", EgressRule.NOT_ALLOWED, count=2))
    save(product, claim, 150, 1000)
    with product.database.read() as tx:
        assert contacts.bytes_of_attempt(tx, claim) == (150, 1000)
        assert contacts.bytes_of_workers(tx) == {"host-1": (150, 1000)}
        assert [one.count for one in contacts.of_task(tx, task_id)] == [2]
    assert 'sandbox_egress_bytes_total{direction="up",worker="host-1"} 150.0' in client.get("/metrics").text
    assert 'sandbox_egress_bytes_total{direction="down",worker="host-1"} 1000.0' in client.get("/metrics").text


@pytest.mark.parametrize("how", ["purge", "forget"])
def test_the_report_goes_with_the_task_s_data(
    client: CheckedClient, host: BuildHost, product: Product, how: str
) -> None:
    task_id = client.task()
    claim = host.run(task_id)
    save(product, claim, 1, 1, contact("b.test", EgressRule.NOT_ALLOWED))
    host.exit(claim)
    if how == "purge":
        assert client.delete(f"/api/v1/tasks/{task_id}/data").status_code == 204
        assert client.get(f"/api/v1/tasks/{task_id}/network").json["denied"] == []  # type: ignore[index]
    else:
        forget(product, task_id)
        assert client.get(f"/api/v1/tasks/{task_id}/network").status_code == 404
    with product.database.read() as tx:
        assert contacts.of_task(tx, task_id) == []
