"""Tokens, the audit trail, and whose tasks a query finds, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator import access, clock
from orchestrator.access import Caller, Scope
from orchestrator.product import Product
from orchestrator.services import tokens as service
from orchestrator.services.retention import retain
from orchestrator.services.submit import IdempotencyKeyReused, submit
from orchestrator.services.tokens import NoToken, UnknownToken
from orchestrator.settings import Settings
from orchestrator.store import audit, tasks, tokens
from orchestrator.store.audit import Entry
from orchestrator.store.database import Database
from orchestrator.store.matching import Query
from orchestrator.store.tasks import DuplicateTask, TaskIdTaken
from tests.integration.store.given import manifest_of

ALICE = Caller("alice", frozenset({"task:create", "task:read"}), "1", "a")
BOB = Caller("bob", frozenset({"task:create", "task:read"}), "2", "b")


def made(database: Database, **fields: object) -> tuple[access.Token, access.Credentials]:
    given: dict[str, object] = {"name": "ci", "owner": "alice", "scopes": [Scope.TASK_READ], **fields}
    token, text = service.create(database, **given)  # type: ignore[arg-type]
    credentials = access.read(text)
    assert credentials is not None
    return token, credentials


def test_a_token_is_recognised_until_it_is_revoked_by_whichever_process(
    database: Database, open_database: Callable[[], Database]
) -> None:
    token, credentials = made(database, requests_per_minute=5, expires_at=clock.now() + timedelta(days=1))
    other = open_database()
    assert service.recognise(other, credentials) == token
    revoked = service.revoke(database, token.id)
    assert revoked.revoked_at is not None
    assert service.recognise(other, credentials) is None
    assert service.revoke(other, token.id).revoked_at == revoked.revoked_at
    with pytest.raises(UnknownToken, match="nobody"):
        service.revoke(database, "nobody")


def test_one_token_and_the_store_has_had_one_for_ever(database: Database) -> None:
    with database.read() as tx:
        assert not tokens.any_exists(tx)
    token, _ = made(database)
    service.revoke(database, token.id)
    with database.read() as tx:
        assert tokens.any_exists(tx)
        assert [one.state(clock.now()) for one in tokens.all_of(tx)] == ["revoked"]


@pytest.mark.parametrize(
    "wrong",
    [{"owner": "Alice"}, {"owner": ""}, {"name": "a/b"}, {"name": ""}, {"expires_at": clock.now()}],
    ids=["a capital letter", "no owner", "a slash", "no name", "an end that is past"],
)
def test_what_no_token_can_be_is_not_stored(database: Database, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"is no|expired"):
        made(database, **wrong)
    with database.read() as tx:
        assert tokens.all_of(tx) == []
        assert audit.find(tx) == []


def test_making_and_revoking_a_token_is_in_the_audit_trail(database: Database) -> None:
    token, _ = made(database)
    service.revoke(database, token.id)
    service.revoke(database, token.id)
    with database.read() as tx:
        found = audit.find(tx)
    assert [(one.action, one.subject, one.owner) for one in found] == [
        ("token.create", token.id, None),
        ("token.revoke", token.id, None),
    ]
    assert all(one.remote.startswith("this host (user ") for one in found)


def test_an_open_address_needs_a_token_or_the_operators_word(
    settings: Settings, database: Database, empty_url: str
) -> None:
    wide = replace(settings, host="0.0.0.0")  # noqa: S104 - what is tested
    for refused in (wide, replace(wide, store_url=empty_url)):
        with pytest.raises(NoToken, match=r"sandbox token create.*SANDBOX_ALLOW_OPEN=1"):
            service.check_host(refused)
    for allowed in (settings, replace(wide, allow_open=True)):
        service.check_host(allowed)
    made(database)
    service.check_host(wide)


def entry(minutes: float, owner: str | None = "alice", action: str = "task.submit") -> Entry:
    at = clock.now() - timedelta(minutes=minutes)
    return Entry(at, "1", owner, "here", action, f"t{minutes:g}", 202, "r")


def test_the_trail_is_found_by_time_owner_and_action_newest_last(database: Database) -> None:
    entries = [entry(50), entry(40, "bob"), entry(30, action="task.cancel"), entry(20), entry(10, None)]
    with database.write() as tx:
        audit.insert(tx, entries)
    with database.read() as tx:
        assert audit.find(tx) == entries
        assert audit.find(tx, since=clock.now() - timedelta(minutes=35)) == entries[2:]
        assert audit.find(tx, owner="alice") == [entries[0], entries[2], entries[3]]
        assert audit.find(tx, action="task.submit", limit=2) == entries[3:]


def test_retention_takes_the_trail_with_the_tasks_of_its_time(
    product: Product, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PAGE", 3)
    day = 24 * 60
    old, young = [entry((40 + number) * day) for number in range(7)], [entry(number) for number in range(3)]
    with database.write() as tx:
        audit.insert(tx, old + young)
    retain(replace(product, settings=replace(product.settings, retention_days=0)), clock.now())
    with database.read() as tx:
        assert len(audit.find(tx)) == 10
    retain(product, clock.now())
    with database.read() as tx:
        assert audit.find(tx) == young


def test_an_owner_finds_and_counts_their_own_and_everybody_means_all(product: Product, database: Database) -> None:
    mine = {submit(product, manifest_of(), by=ALICE).id for _ in range(3)}
    theirs = submit(product, manifest_of(), by=BOB).id
    nobodys = submit(product, manifest_of()).id
    with database.read() as tx:
        found, total = tasks.find(tx, Query(owner="alice", limit=2))
        assert ({one.id for one in found} < mine, total) == (True, 3)
        assert {one.owner for one in found} == {"alice"}
        assert tasks.find(tx, Query())[1] == 5
        assert [tasks.exists(tx, one, owner="alice") for one in (theirs, nobodys)] == [False, False]
        assert all(tasks.exists(tx, one, owner=None) for one in (*mine, theirs, nobodys))


def test_a_taken_id_says_nothing_of_a_task_that_is_somebody_elses(product: Product) -> None:
    submit(product, manifest_of(task_id="t"), by=ALICE)
    with pytest.raises(TaskIdTaken, match="the id t is taken"):
        submit(product, manifest_of(task_id="t"), by=BOB)
    with pytest.raises(DuplicateTask):
        submit(product, manifest_of(task_id="t"), by=ALICE)


def test_a_key_is_its_owners(product: Product) -> None:
    mine = submit(product, manifest_of("a"), idempotency_key="k", by=ALICE)
    theirs = submit(product, manifest_of("b"), idempotency_key="k", by=BOB)
    nobodys = submit(product, manifest_of("c"), idempotency_key="k")
    assert len({mine.id, theirs.id, nobodys.id}) == 3
    assert submit(product, manifest_of("a"), idempotency_key="k", by=ALICE).id == mine.id
    with pytest.raises(IdempotencyKeyReused):
        submit(product, manifest_of("a"), idempotency_key="k", by=BOB)
