"""The queue of pending tasks: in which order they are placed, and what those that wait are told."""

from __future__ import annotations

import pytest

from orchestrator import clock
from orchestrator.product import Product
from orchestrator.services.place import place
from orchestrator.store import queue, tasks
from orchestrator.store.database import Database
from orchestrator.store.matching import Query
from tests.integration.store.broker import StrictBroker
from tests.integration.store.given import manifest_of, now, registered, submitted


def waiting(database: Database, task_id: str, *, memory: int = 10, priority: int = 0, profile: str = "basic") -> None:
    """A task that is stored and that no round has looked at yet."""
    found = manifest_of(task_id=task_id, vm={"memory": f"{memory}M", "profile": profile}, priority=priority)
    with database.write() as tx:
        tasks.insert(tx, task_id, found, at=clock.now(), message="accepted", rerun_of=None)


def test_a_worker_with_room_for_many_is_filled_in_one_round_in_their_order(
    product: Product, database: Database, broker: StrictBroker
) -> None:
    names = [f"t{number:03}" for number in range(150)]
    for number, name in enumerate(names):
        waiting(database, name, memory=10 + number % 2)
    registered(product, slots=149, cpus=1000)
    assert broker.attempts == [("w", name, 1) for name in names[:149]]
    assert "all 149 slots are taken" in str(now(product, "t149").state_message)


def test_every_task_of_a_demand_is_told_the_present_reason(product: Product, database: Database) -> None:
    names = [submitted(product).id for _ in range(4)]
    assert {"no worker is registered" in str(now(product, name).state_message) for name in names} == {True}
    registered(product, slots=1, cpus=1)
    registered(product, "v", slots=0)
    with database.read() as tx:
        found = {task.id: task.state_message for task in tasks.find(tx, Query())[0]}
    assert found.pop(names[0]) == "placed on worker w; waits to be claimed"
    assert set(found.values()) == {"waits: v: all 0 slots are taken; w: all 1 slots are taken"}
    assert {now(product, name).state_message for name in names[1:]} == set(found.values())


def test_the_reason_of_one_demand_is_not_that_of_another(product: Product) -> None:
    registered(product, slots=2, cpus=2)
    submitted(product, "runs", vm={"cpus": 1})
    submitted(product, "wide", vm={"cpus": 2})
    submitted(product, "also-runs", vm={"cpus": 1})
    submitted(product, "small", vm={"cpus": 0.5})
    assert now(product, "wide").state_message == "waits: w: less than 2 of its 2 cpus are free"
    assert now(product, "small").state_message == "waits: w: all 2 slots are taken"
    registered(product, slots=3, cpus=2)
    assert now(product, "wide").state_message == "waits: w: less than 2 of its 2 cpus are free"
    assert now(product, "small").state_message == "waits: w: less than 0.5 of its 2 cpus are free"


@pytest.fixture
def many_demands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round looks at few demands, so that a test has more of them."""
    monkeypatch.setattr(queue, "DEMANDS", 3)
    monkeypatch.setattr(queue, "ROUND", 2)


@pytest.mark.usefixtures("many_demands")
def test_with_more_demands_than_a_round_looks_at_the_most_urgent_go_first(
    product: Product, database: Database, broker: StrictBroker
) -> None:
    for number in range(12):
        waiting(database, f"t{number:02}", memory=10 + number, priority=number % 4)
    for expected in (["t03", "t07"], ["t11", "t02"]):
        broker.attempts.clear()
        registered(product, f"after {expected[0]}", slots=2)
        assert [task_id for _, task_id, _ in broker.attempts] == expected


@pytest.mark.usefixtures("many_demands")
def test_a_demand_that_many_others_hide_has_its_turn(
    product: Product, database: Database, broker: StrictBroker
) -> None:
    registered(product, "full", slots=0, profiles=("agentic-dev",))
    for number in range(12):
        waiting(database, f"t{number:02}", memory=10 + number, priority=1, profile="agentic-dev")
    waiting(database, "hidden", memory=500)
    registered(product)
    for _ in range(300):  # each round looks at three of thirteen, chosen anew
        if broker.attempts:
            break
        with database.write() as tx:
            for worker, task_id, attempt in place(tx, clock.now()):
                broker.attempts.append((worker, task_id, attempt))
    assert broker.attempts == [("w", "hidden", 1)]


def test_a_task_of_an_older_version_is_placed_like_the_others(product: Product, database: Database) -> None:
    """An upgrade gives pending tasks a key of another form: two lines of one demand, placed by urgency."""
    waiting(database, "new", priority=1)
    waiting(database, "old", priority=2)
    waiting(database, "oldest", priority=0)
    with database.write() as tx:
        older = queue.tasks.c.id.in_(["old", "oldest"])
        tx.execute(queue.tasks.update().where(older).values(demand="basic/isolated/run/1.0/10485760/1073741824"))
    registered(product, slots=2)
    assert [now(product, name).worker for name in ("old", "new", "oldest")] == ["w", "w", None]
    assert "all 2 slots are taken" in str(now(product, "oldest").state_message)
