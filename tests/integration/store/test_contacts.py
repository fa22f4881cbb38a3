"""What a sandbox sent and was refused, in both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from orchestrator.contacts import Contact, EgressRule, Traffic, entries, fix, merged
from orchestrator.outcomes import of_exit
from orchestrator.product import Product
from orchestrator.services.conclude import conclude
from orchestrator.services.expire import forget
from orchestrator.services.purge import purge
from orchestrator.states import State
from orchestrator.store import contacts
from tests.integration.store.given import now, registered, running

AT = datetime(2026, 1, 29, 10, 15, tzinfo=UTC)


def contact(host: str, port: int = 443, *, rule: EgressRule = EgressRule.NOT_ALLOWED, count: int = 1) -> Contact:
    last = AT + timedelta(seconds=count)
    return Contact(host, port, rule, rule is EgressRule.LEARNED, count, AT, last)


def test_traffic_is_stored_as_it_is_now_and_storing_it_again_changes_nothing(product: Product) -> None:
    registered(product)
    claim = running(product)
    for count, up in ((1, 100), (1, 100), (7, 250)):
        with product.database.write() as tx:
            contacts.save(tx, claim, "w", Traffic(up, 10 * up, (contact("a.test", count=count),)))
    with product.database.read() as tx:
        assert contacts.bytes_of_attempt(tx, claim) == contacts.bytes_of_task(tx, "t") == (250, 2500)
        assert contacts.bytes_of_workers(tx) == {"w": (250, 2500)}
        assert contacts.of_task(tx, "t") == contacts.of_task(tx, "t", 1) == [contact("a.test", count=7)]
        assert contacts.of_task(tx, "t", 2) == []


def test_what_a_worker_has_sent_stays_when_it_registers_again_and_grows_with_the_next_task(product: Product) -> None:
    registered(product)
    for number in ("1", "2"):
        claim = running(product, number)
        with product.database.write() as tx:
            contacts.save(tx, claim, "w", Traffic(5, 7, ()))
        registered(product)
    with product.database.read() as tx:
        assert contacts.bytes_of_workers(tx) == {"w": (10, 14)}


def test_a_reaper_that_knows_no_contacts_can_forget_their_task(product: Product) -> None:
    """One of the version before, during an upgrade: it deletes from the tables that it knows."""
    registered(product)
    claim = running(product)
    with product.database.write() as tx:
        contacts.save(tx, claim, "w", Traffic(1, 1, (contact("a.test"),)))
    with product.database.write() as tx:
        for table in ("records", "attempts", "tasks"):
            key = "id" if table == "tasks" else "task_id"
            tx.execute(sa.text(f"DELETE FROM {table} WHERE {key} = 't'"))  # noqa: S608 - ours
        assert contacts.of_task(tx, "t") == []


def test_contacts_go_when_the_task_is_purged_and_when_it_is_forgotten(product: Product) -> None:
    registered(product)
    for task_id, remove in (("purged", purge), ("forgotten", forget)):
        claim = running(product, task_id, until=State.COMPLETING)
        with product.database.write() as tx:
            contacts.save(tx, claim, "w", Traffic(1, 1, (contact("a.test"), contact("b.test"))))
        conclude(product, claim, of_exit(1, oom_killed=False))
        remove(product, task_id)
        with product.database.read() as tx:
            assert contacts.of_task(tx, task_id) == []
    assert now(product, "purged").purged_at is not None


def test_the_fix_names_what_can_be_allowed_and_only_that() -> None:
    assert fix([]) is None
    denied = [contact("b.test", 8443, count=2), contact("a.test", 80), contact("a.test"), contact("?", 0)]
    refused = [*denied[:3], contact("c.test", rule=EgressRule.ADDRESS)]
    assert fix(refused) == (
        "5 connections to the network were denied: add a.test, b.test:8443 to vm.allowed_hosts if the task needs it "
        "(`sandbox task network ID` shows all)"
    )
    assert fix([contact("c.test", rule=EgressRule.SNI)]) == (
        "1 connection to the network was denied, such as c.test:443 (sni); `sandbox task network ID` shows all and "
        "docs/network.md explains the rules"
    )
    assert entries(denied) == ["a.test", "b.test:8443"]
    many = fix([contact(f"host-{number:02}.test") for number in range(12)])
    assert many is not None
    assert "host-09.test and 2 more to vm.allowed_hosts" in many


def test_contacts_of_several_attempts_become_one() -> None:
    later = Contact("a.test", 443, EgressRule.NOT_ALLOWED, False, 2, AT + timedelta(1), AT + timedelta(2))
    assert merged([later, contact("a.test", count=3)]) == [
        Contact("a.test", 443, EgressRule.NOT_ALLOWED, False, 5, AT, AT + timedelta(2))
    ]
