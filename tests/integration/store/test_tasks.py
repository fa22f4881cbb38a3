"""Tasks in the store: insert, list, change."""

from __future__ import annotations

from datetime import timedelta
from itertools import chain
from typing import Any

import pytest

from orchestrator import clock, journal
from orchestrator.journal import StaleClaim
from orchestrator.models import Claim, Kind
from orchestrator.outcomes import Outcome, Reason, failure, of_exit
from orchestrator.product import Product
from orchestrator.services.claim import note
from orchestrator.services.conclude import conclude
from orchestrator.states import Event, IllegalTransition, State
from orchestrator.store import attempts as attempt_rows
from orchestrator.store import queue, tasks
from orchestrator.store.database import Database
from orchestrator.store.lifecycle import transition
from orchestrator.store.matching import Query
from orchestrator.store.tasks import DuplicateTask
from tests.integration.store.given import manifest_of, now, registered, running, submitted
from tests.integration.store.plans import heard

AT = clock.now()


def insert(database: Database, task_id: str, *, second: int = 0, name: str = "n", **sections: Any) -> None:
    with database.write() as tx:
        found = manifest_of(name, task_id=task_id, **sections)
        tasks.insert(tx, task_id, found, at=AT + timedelta(seconds=second), message="waits", rerun_of=None)


def page(database: Database, **query: object) -> list[str]:
    with database.read() as tx:
        found, total = tasks.find(tx, Query(**query))  # type: ignore[arg-type]
    assert total >= len(found)
    return [task.id for task in found]


def test_a_stored_task_is_read_as_it_was_written(database: Database) -> None:
    found = manifest_of(
        "näme 🦊", task_id="t", labels={"a/b": "x\u2028y"}, priority=-7, vm={"cpus": 0.1, "memory": "512M"}
    )
    with database.write() as tx:
        stored = tasks.insert(tx, "t", found, at=AT, message="waits", rerun_of="older")
    with database.read() as tx:
        task = tasks.get(tx, "t")
    assert task == stored
    assert task is not None
    assert (task.name, task.labels, task.priority, task.rerun_of) == ("näme 🦊", {"a/b": "x\u2028y"}, -7, "older")
    assert task.definition == found.definition
    assert (task.state, task.state_message, task.attempt, task.fence) == (State.PENDING, "waits", 0, 0)
    assert (task.requested.cpus, task.requested.memory_bytes) == (0.1, 512 << 20)
    assert task.created_at == AT
    assert task.created_at.tzinfo is not None
    assert (task.outcome, task.applied, task.cancellation, task.started_at) == (None, None, None, None)


def test_acceptance_is_the_first_record_of_the_journal(database: Database) -> None:
    insert(database, "t")
    with database.read() as tx:
        (record,) = journal.after(tx, "t", 0)
    assert (record.kind, record.first_seq, record.last_seq, record.attempt) == (Kind.STATE_CHANGE, 1, 1, 0)
    assert record.body == {"previous_state": None, "new_state": "pending", "state_message": "waits"}


def test_a_second_task_of_the_same_id_is_refused_with_the_first_and_changes_nothing(database: Database) -> None:
    insert(database, "t", name="first", labels={"k": "v"})
    with pytest.raises(DuplicateTask) as caught, database.write() as tx:
        tasks.insert(tx, "t", manifest_of("second"), at=AT, message="waits", rerun_of=None)
    assert caught.value.existing.name == "first"
    assert page(database, labels=(("k", "v"),)) == ["t"]


def test_what_is_asked_often_or_of_many_tasks_reads_no_definition(database: Database) -> None:
    insert(database, "t", labels={"k": "v"})
    for question in (lambda tx: tasks.find(tx, Query())[0][0], lambda tx: tasks.look(tx, "t")):
        with database.read() as tx, heard(database) as statements:
            found = question(tx)
        assert (found.id, found.labels, found.state, found.state_message) == ("t", {"k": "v"}, State.PENDING, "waits")
        assert statements
        assert not [text for text, _ in statements if "definition" in text or "applied" in text]


def test_a_transaction_goes_on_after_a_duplicate_was_refused_in_it(database: Database) -> None:
    insert(database, "t")
    with database.write() as tx:
        with pytest.raises(DuplicateTask):
            tasks.insert(tx, "t", manifest_of(), at=AT, message="waits", rerun_of=None)
        tasks.insert(tx, "other", manifest_of(), at=AT, message="waits", rerun_of=None)
    assert sorted(page(database)) == ["other", "t"]


@pytest.fixture
def family(product: Product, database: Database) -> Database:
    registered(product, slots=9)
    insert(database, "a", second=1, name="zeta", labels={"team": "red", "env": "prod"})
    insert(database, "b", second=2, name="alpha", labels={"team": "blue", "env": "prod"})
    insert(database, "c", second=3, name="mid", labels={"team": "red"}, parent_id="a")
    insert(database, "d", second=4, name="beta", labels={"team": "Red"}, parent_id="a")
    running(product, "e", name="run", parent_id="b")
    return database


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"states": (State.RUNNING,)}, {"e"}),
        ({"states": (State.RUNNING, State.PENDING)}, {"a", "b", "c", "d", "e"}),
        ({"states": (State.FAILED,)}, set()),
        ({"labels": (("team", "red"),)}, {"a", "c"}),
        ({"labels": (("team", "red"), ("env", "prod"))}, {"a"}),
        ({"labels": (("team", "red"), ("team", "blue"))}, set()),
        ({"labels": (("team", "%"),)}, set()),
        ({"parent_id": "a"}, {"c", "d"}),
        ({"parent_id": "a", "labels": (("team", "red"),)}, {"c"}),
        ({"parent_id": "nobody"}, set()),
    ],
)
def test_the_list_is_filtered_by_all_that_is_given(
    family: Database, query: dict[str, object], expected: set[str]
) -> None:
    assert set(page(family, **query)) == expected
    with family.read() as tx:
        assert tasks.find(tx, Query(**query, limit=1))[1] == len(expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sort", "ascending"),
    [
        ("created_at", ["a", "b", "c", "d"]),
        ("name", ["b", "d", "c", "a"]),
        ("state_changed_at", ["a", "b", "c", "d"]),
    ],
)
def test_the_list_is_sorted_both_ways(database: Database, sort: str, ascending: list[str]) -> None:
    for number, (task_id, name) in enumerate({"a": "zeta", "b": "alpha", "c": "mid", "d": "beta"}.items()):
        insert(database, task_id, second=number, name=name)
    assert page(database, sort=sort, descending=False) == ascending
    assert page(database, sort=sort) == ascending[::-1]


def test_tasks_that_have_not_started_come_last_in_both_orders(family: Database) -> None:
    assert page(family, sort="started_at")[0] == "e"
    assert page(family, sort="started_at", descending=False)[0] == "e"


def test_pages_together_are_the_list_even_where_the_sort_key_is_equal(database: Database) -> None:
    for number in range(11):
        insert(database, f"t{number:02}")
    pages = [page(database, limit=4, offset=offset) for offset in (0, 4, 8, 12)]
    assert [len(one) for one in pages] == [4, 4, 3, 0]
    assert list(chain.from_iterable(pages)) == page(database)
    with database.read() as tx:
        assert tasks.find(tx, Query(limit=4, offset=8))[1] == 11


def test_states_and_outcomes_are_counted(product: Product, database: Database) -> None:
    registered(product, slots=9)
    for number, exit_code in enumerate((0, 1, 1)):
        mine = running(product, f"t{number}", until=State.COMPLETING)
        conclude(product, mine, of_exit(exit_code, oom_killed=False))
    submitted(product, "waits")
    with database.read() as tx:
        assert tasks.count_by_state(tx) == {"completed": 1, "failed": 2, "pending": 1}
        assert tasks.outcome_counts(tx) == {"exit_zero": 1, "exit_nonzero": 2}
        assert queue.oldest_pending(tx) == now(product, "waits").created_at


@pytest.fixture
def staged(product: Product) -> Claim:
    registered(product)
    return running(product, until=State.STAGING)


@pytest.mark.parametrize(
    ("claim", "expected", "event"),
    [
        (Claim("t", 1, 1), State.READY, Event.GATE_OPENED),
        (Claim("t", 2, 1), State.STAGING, Event.WORKSPACE_MADE),
        (Claim("t", 0, 1), State.STAGING, Event.WORKSPACE_MADE),
        (Claim("t", 1, 0), State.STAGING, Event.WORKSPACE_MADE),
        (Claim("t", 1, 2), State.STAGING, Event.FAIL),
        (Claim("nobody", 1, 1), State.STAGING, Event.WORKSPACE_MADE),
    ],
)
def test_a_transition_that_expects_what_is_not_true_is_stale_and_writes_nothing(
    product: Product, staged: Claim, claim: Claim, expected: State, event: Event
) -> None:
    before = now(product, "t")
    with pytest.raises(StaleClaim) as caught, product.database.write() as tx:
        transition(tx, claim, expected, event, at=clock.now())
    assert caught.value.claim == claim
    assert now(product, "t") == before
    with product.database.read() as tx:
        assert journal.last_seq(tx, "t") == journal.after(tx, "t", 0)[-1].last_seq == before.next_seq - 1
        assert journal.after(tx, "nobody", 0) == []


def test_a_transition_that_the_table_does_not_know_is_refused(product: Product, staged: Claim) -> None:
    with pytest.raises(IllegalTransition), product.database.write() as tx:
        transition(tx, staged, State.STAGING, Event.SUCCEED, at=clock.now())
    assert now(product, "t").state is State.STAGING


def test_a_transition_and_its_record_land_together(product: Product, staged: Claim) -> None:
    at = clock.now()
    with product.database.write() as tx:
        state = transition(tx, staged, State.STAGING, Event.WORKSPACE_MADE, at=at, message="made")
    assert state is State.PROVISIONING
    task = now(product, "t")
    assert (task.state, task.state_message, task.state_changed_at) == (state, "made", at)
    with product.database.read() as tx:
        record = journal.after(tx, "t", task.next_seq - 2)[0]
        (attempt,) = attempt_rows.of_task(tx, "t")
    assert record.body == {"previous_state": "staging", "new_state": "provisioning", "state_message": "made"}
    assert (record.at, record.attempt, attempt.state) == (at, 1, State.PROVISIONING)


def test_a_transaction_that_fails_after_a_transition_stores_neither_state_nor_record(
    product: Product, staged: Claim
) -> None:
    before = now(product, "t")
    with pytest.raises(ZeroDivisionError), product.database.write() as tx:  # noqa: PT012 - the second line breaks it off
        transition(tx, staged, State.STAGING, Event.WORKSPACE_MADE, at=clock.now())
        raise ZeroDivisionError
    assert now(product, "t") == before


def test_facts_are_noted_only_in_the_name_of_the_present_claim(product: Product, staged: Claim) -> None:
    note(product, staged, image="sandbox/basic:latest", verdict={"kind": "exited"})
    with product.database.read() as tx:
        attempt = attempt_rows.get(tx, "t", 1)
    assert attempt is not None
    assert (attempt.image, attempt.verdict, attempt.claim) == ("sandbox/basic:latest", {"kind": "exited"}, staged)
    for stale in (Claim("t", 1, 2), Claim("t", 2, 1), Claim("nobody", 1, 1)):
        with pytest.raises(StaleClaim):
            note(product, stale, image="other")


def test_an_outcome_is_read_from_the_store_as_it_was_written(product: Product) -> None:
    registered(product)
    mine = running(product, until=State.COMPLETING)
    outcome: Outcome = failure(Reason.SANDBOX_ERROR, "the engine did not answer", hint="see `sandbox doctor`")
    conclude(product, mine, outcome)
    task = now(product, "t")
    assert (task.state, task.outcome, task.exit_code) == (State.FAILED, outcome, None)
    with product.database.read() as tx:
        (attempt,) = attempt_rows.of_task(tx, "t")
        record = journal.after(tx, "t", task.next_seq - 2)[0]
    assert (attempt.outcome, attempt.state, attempt.finished_at) == (outcome, State.FAILED, task.finished_at)
    assert record.body["outcome"] == outcome.to_dict()
