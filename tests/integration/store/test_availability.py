"""The store between processes: doorbells, the reaper's lock, and a store that does not answer."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from orchestrator import clock, journal
from orchestrator.leadership import REAPER, leadership
from orchestrator.models import Kind, NewRecord
from orchestrator.product import Product
from orchestrator.services.submit import submit
from orchestrator.store import tables, tasks
from orchestrator.store.database import Database, StoreUnavailable
from orchestrator.store.doorbell import Doorbell
from orchestrator.store.matching import Query
from tests.integration.store.cluster import Cluster
from tests.integration.store.given import manifest_of, now, registered, running, submitted, together
from tests.integration.store.processes import program

ONLY_SQLITE = pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
"""One lock for all writers."""
ONLY_POSTGRES = pytest.mark.parametrize("kind", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
"""A server that can go away."""
SOON = 20.0
"""How long a test waits for what must come; it comes in milliseconds."""


@pytest.fixture
def doorbell(database: Database) -> Iterator[Doorbell]:
    bell = database.doorbell()
    bell.wait(0)  # PostgreSQL's begins to listen at its first wait, and says "look" then
    yield bell
    bell.close()


def write_something(product: Product, claim: object) -> None:
    record = NewRecord(Kind.SYSTEM, clock.now(), "system", {"message": "m"})
    with product.database.write() as tx:
        journal.append(tx, claim, [record])  # type: ignore[arg-type]


def test_a_doorbell_is_silent_until_a_commit_and_rings_for_one(product: Product, doorbell: Doorbell) -> None:
    registered(product)
    mine = running(product)
    while doorbell.wait(0.1):
        pass  # what came before
    assert not doorbell.wait(0.05)
    write_something(product, mine)
    assert doorbell.wait(SOON)
    assert not doorbell.wait(0.05)


def test_a_ring_between_two_waits_is_not_missed(product: Product, doorbell: Doorbell) -> None:
    registered(product)
    while doorbell.wait(0.1):
        pass
    submit(product, manifest_of())
    submit(product, manifest_of())
    assert doorbell.wait(0)


def test_a_doorbell_wakes_a_reader_that_waits(product: Product, doorbell: Doorbell) -> None:
    registered(product)
    mine = running(product)
    while doorbell.wait(0.1):
        pass
    rung, _ = together(lambda: doorbell.wait(SOON), lambda: write_something(product, mine))
    assert rung is True


def test_what_was_rolled_back_does_not_ring(product: Product, doorbell: Doorbell) -> None:
    registered(product)
    mine = running(product)
    while doorbell.wait(0.1):
        pass
    with pytest.raises(ZeroDivisionError), product.database.write() as tx:  # noqa: PT012 - the second line breaks it off
        journal.append(tx, mine, [NewRecord(Kind.SYSTEM, clock.now(), "system", {"message": "m"})])
        raise ZeroDivisionError
    assert not doorbell.wait(0.1)


def test_a_commit_of_another_process_rings(product: Product, doorbell: Doorbell, url: str) -> None:
    registered(product)
    mine = running(product)
    with program("commit", url, mine.task_id, str(mine.attempt), str(mine.fence)) as other:
        while doorbell.wait(0.1):
            pass
        other.say()
        assert doorbell.wait(SOON)
        assert other.hear() == "committed"
    with product.database.read() as tx:
        (row,) = journal.after(tx, "t", now(product, "t").next_seq - 2)
    assert row.body == {"message": "from another process"}


@ONLY_POSTGRES
def test_a_process_that_falls_silent_within_a_transaction_does_not_hold_up_the_others(
    product: Product, url: str
) -> None:
    submitted(product, "t")
    name = sa.update(tables.tasks).where(tables.tasks.c.id == "t")
    silent = Database(url, idle_timeout_seconds=0.5)
    with pytest.raises(StoreUnavailable), silent.write() as tx:  # noqa: PT012 - it fails where the block ends
        tx.execute(name.values(name="of the silent one"))
        with product.database.write() as other:  # waits for the row
            other.execute(name.values(name="of another one"))
    silent.close()
    assert now(product, "t").name == "of another one"


def test_a_closed_doorbell_can_be_closed_again(database: Database) -> None:
    bell = database.doorbell()
    bell.close()
    bell.close()


def test_the_reapers_lock_is_held_by_one(database: Database, open_database: Callable[[], Database]) -> None:
    other = open_database()
    with leadership(database, REAPER) as leading:
        assert leading()
        with leadership(other, REAPER) as also:
            assert not also()
        assert leading()
    with leadership(other, REAPER) as leading:
        assert leading()


def test_the_reapers_lock_is_free_when_its_holder_was_killed(database: Database, url: str) -> None:
    with program("lead", url) as holder:
        assert holder.hear() == "leading"
        with leadership(database, REAPER) as leading:
            assert not leading()
        holder.kill()
        wait_until(lambda: leads(database))


def leads(database: Database) -> bool:
    with leadership(database, REAPER) as leading:
        return leading()


@ONLY_POSTGRES
def test_who_lost_the_connection_of_the_reapers_lock_knows_that_it_leads_no_more(
    cluster: Cluster, database: Database, open_database: Callable[[], Database]
) -> None:
    with leadership(database, REAPER) as leading:
        assert leading()
        cluster.end_sessions(str(database.url.database))
        assert not leading()
        assert leads(open_database())
    database.ping()


def test_a_read_is_one_snapshot(product: Product, open_database: Callable[[], Database]) -> None:
    submitted(product, "t")
    with open_database().read() as tx:
        assert tasks.count_by_state(tx) == {"pending": 1}
        submitted(product, "u")
        assert tasks.count_by_state(tx) == {"pending": 1}
        assert tasks.get(tx, "u") is None
    assert now(product, "u").id == "u"


def test_installations_that_begin_at_once_have_one_id(url: str, open_database: Callable[[], Database]) -> None:
    found = [open_database() for _ in range(6)]
    ids = together(*[one.installation_id for one in found])
    assert len(set(ids)) == 1, ids
    with found[0].read() as tx:
        assert tx.scalar(sa.text("SELECT count(*) FROM installation")) == 1


@ONLY_SQLITE
def test_a_store_that_is_locked_beyond_the_timeout_is_unavailable_and_takes_writes_again(url: str) -> None:
    database = Database(url, busy_timeout_seconds=0.2)
    database.ping()
    blocker = sqlite3.connect(str(database.url.database), isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="database is locked"):
        database.installation_id()
    results = together(*[database.installation_id] * 4)
    assert all(isinstance(result, StoreUnavailable) for result in results), results
    database.ping()  # readers are not in the way of a writer, nor it in theirs
    blocker.execute("ROLLBACK")
    blocker.close()
    assert len(database.installation_id()) == 12
    database.close()


def test_a_store_that_cannot_be_opened_is_unavailable(kind: str, url: str, tmp_path: object) -> None:
    if kind == "sqlite":
        database = Database(f"sqlite:///{tmp_path}")  # a directory
    else:
        database = Database(sa.make_url(url).set(database="nobody").render_as_string())
    with pytest.raises(StoreUnavailable):
        database.ping()
    with pytest.raises(StoreUnavailable), leadership(database, REAPER) if kind != "sqlite" else database.write():
        pass
    database.close()


@ONLY_POSTGRES
def test_a_server_that_is_stopped_is_unavailable_and_found_again_when_it_is_back(
    product: Product, cluster: Cluster, doorbell: Doorbell
) -> None:
    registered(product)
    mine = running(product)
    cluster.stop()
    try:
        for action in (product.database.ping, lambda: submit(product, manifest_of())):
            with pytest.raises(StoreUnavailable):
                action()
        assert doorbell.wait(SOON)  # a broken connection says "look": the reader learns it from the store
    finally:
        cluster.start()
    assert now(product, "t").claim == mine
    write_something(product, mine)
    with product.database.read() as tx:
        assert tasks.find(tx, Query())[1] == 1
    while not doorbell.wait(0.1):
        pass
    write_something(product, mine)
    assert doorbell.wait(SOON)


def test_a_deadlock_or_a_broken_transaction_stores_nothing(product: Product) -> None:
    submitted(product, "t")
    before = now(product, "t")
    with pytest.raises(StoreUnavailable), product.database.write() as tx:  # noqa: PT012 - the second line breaks it off
        tx.execute(sa.text("UPDATE tasks SET name = 'changed'"))
        raise sa.exc.OperationalError("COMMIT", {}, Exception("the connection broke"))
    assert now(product, "t") == before


def wait_until(condition: Callable[[], bool], seconds: float = SOON) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)
