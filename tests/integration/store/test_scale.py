"""What is asked of the store often finds its answer in an index, however many tasks there are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator import clock
from orchestrator.product import Product
from orchestrator.services.place import place
from orchestrator.states import State
from orchestrator.store import attempts as attempt_rows
from orchestrator.store import expiry, queue, tasks, workers
from orchestrator.store.database import Database
from orchestrator.store.expiry import Span
from orchestrator.store.matching import Matching, Query
from orchestrator.store.tables import attempts as attempt_table
from orchestrator.store.tables import tasks as table
from tests.integration.store.given import manifest_of, registered, running, submitted
from tests.integration.store.plans import heard, plan_of

AT = clock.now()
Question = Callable[[sa.Connection], object]


def listing(**query: Any) -> Question:
    return lambda tx: tasks.find(tx, Query(**query))


QUESTIONS: dict[str, tuple[Question, str]] = {
    "a round's lines": (queue.lines, "tasks_waiting_alike"),
    "the rest of a line": (lambda tx: [list(line.tasks) for line in queue.lines(tx).values()], "tasks_waiting_alike"),
    "the most urgent": (queue._most_urgent, "tasks_waiting"),
    "a round's workers": (workers.hosts, "tasks_held"),
    "what workers hold": (queue.held_by_worker, "tasks_held"),
    "what a worker owns": (lambda tx: attempt_rows.live_on(tx, "w"), "tasks_held"),
    "what each worker owns": (attempt_rows.owned_by_worker, "tasks_held"),
    "taking back from a worker": (lambda tx: queue.unassign(tx, "w"), "tasks_held"),
    "is anything unclaimed": (lambda tx: queue.has_unsent(tx, AT, AT), "tasks_unclaimed"),
    "what is unclaimed": (lambda tx: queue.unsent(tx, AT, AT, AT), "tasks_unclaimed"),
    "what waited too long": (lambda tx: queue.overdue_in_queue(tx, AT), "tasks_expiring"),
    "is a backoff over": (lambda tx: queue.next_backoff_over(tx, AT), "tasks_backing_off"),
    "ending backoffs": (lambda tx: queue.end_backoff(tx, AT), "tasks_backing_off"),
    "what a worker keeps": (lambda tx: attempt_rows.preserved_on(tx, "w"), "attempts_preserved"),
    "what a worker keeps too long": (lambda tx: attempt_rows.preserved_due(tx, "w", AT), "attempts_preserved"),
    "what is left on a worker": (lambda tx: attempt_rows.uncollected_on(tx, "w"), "attempts_uncollected"),
    "what may be forgotten": (lambda tx: expiry.to_forget(tx, Span(AT), 10), "tasks_by_finish"),
    "what may be archived": (lambda tx: expiry.to_archive(tx, Span(AT), 10), "tasks_unarchived"),
    "outcomes": (tasks.outcome_counts, "tasks_ended"),
    "states": (tasks.count_by_state, "tasks_by_state"),
    "the default page": (listing(), "tasks_by_creation"),
    "a page by name": (listing(sort="name"), "tasks_by_name"),
    "a page by start": (listing(sort="started_at", descending=False), "tasks_by_start"),
    "a page by last change": (listing(sort="state_changed_at"), "tasks_by_change"),
    "a page of a state": (listing(states=(State.FAILED,)), "tasks_by_state"),
    "a page of children": (listing(parent_id="p"), "tasks_by_parent"),
    "an owner's page": (listing(owner="alice"), "tasks_by_owner"),
    "an owner's page by name": (listing(owner="alice", sort="name"), "tasks_by_owner_name"),
    "an owner's page by start": (listing(owner="alice", sort="started_at"), "tasks_by_owner_start"),
    "an owner's page by last change": (listing(owner="alice", sort="state_changed_at"), "tasks_by_owner_change"),
    "an owner's page of a state": (listing(owner="alice", states=(State.FAILED,)), "tasks_by_owner_state"),
    "an owner's page of states": (
        listing(owner="alice", states=(State.FAILED, State.PENDING)), "tasks_by_owner_state"
    ),
    "an owner's page of a rare label": (listing(owner="alice", labels=(("k", "v"),)), "task_labels_by_value"),
    "is a task an owner's": (lambda tx: tasks.exists(tx, "c1", owner="alice"), "(sqlite_autoindex_tasks_1|tasks_pkey)"),
    "a page of a label": (listing(labels=(("k", "v"),)), "task_labels_by_value"),
    "a page of a rare label and a state": (
        listing(labels=(("k", "v"),), states=(State.COMPLETED,)), "task_labels_by_value"
    ),
    "a page of a label and a rare state": (listing(labels=(("k", "v"),), states=(State.FAILED,)), "tasks_by_state"),
}  # fmt: skip


@pytest.fixture
def busy(product: Product, database: Database) -> Database:
    """Enough of each kind that PostgreSQL has a reason to choose."""
    registered(product, slots=4)
    running(product, "r0")
    submitted(product, "t", labels={"k": "v"})
    with database.write() as tx:
        rows = [dict(tx.execute(table.select().where(table.c.id == name)).mappings().one()) for name in ("r0", "t")]
        ended = {"state": "completed", "finished_at": AT, "outcome_reason": "exit_zero", "purged_at": AT}
        copies = [
            {
                **rows[0],
                **ended,
                "worker": f"w{number % 100}",
                "id": f"c{number}",
                "created_at": AT + timedelta(seconds=number),
                "owner": "alice" if number % 10 == 0 else "bob",
            }
            for number in range(3000)
        ]
        waiting = {"worker": None, "sent_at": None}
        copies += [{**rows[1], **waiting, "id": f"p{number}", "demand": f"d{number % 5}"} for number in range(300)]
        for number in range(400):  # what the other workers of a fleet run, and have not begun yet
            elsewhere = {"worker": f"w{number % 100}"}
            copies.append({**rows[0], **elsewhere, "id": f"r{number + 1}"})
            copies.append({**rows[1], **elsewhere, "id": f"u{number}", "sent_at": AT + timedelta(days=1)})
        for one in copies:
            one.pop("outcome")
        tx.execute(table.insert(), copies)
        attempt = dict(tx.execute(attempt_table.select()).mappings().one())
        attempt.pop("outcome")
        tx.execute(attempt_table.insert(), [{**attempt, "task_id": f"c{number}"} for number in range(3000)])
    if not database.is_sqlite:  # which counts nothing by itself, and keeps the room of rows that earlier tests had
        with database.session() as connection:
            connection.execute(sa.text("VACUUM (FULL, ANALYZE)"))
    return database


@pytest.mark.parametrize("what", QUESTIONS)
def test_what_is_asked_often_is_found_by_its_index(busy: Database, what: str) -> None:
    question, index = QUESTIONS[what]
    with busy.write() as tx:
        with heard(busy) as statements:
            question(tx)
        plan = plan_of(tx, statements)
    assert re.search(rf"\b{index}\b", plan), plan
    assert not re.search(r"SCAN tasks$|Seq Scan on tasks|Seq Scan on task_labels", plan, re.MULTILINE), plan


@pytest.mark.parametrize("owner", [None, "alice"])
@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("sort", ["created_at", "name", "state_changed_at", "started_at"])
def test_a_page_is_cut_in_the_order_of_the_index_and_not_sorted(
    busy: Database, sort: str, descending: bool, owner: str | None
) -> None:
    with busy.read() as tx:
        with heard(busy) as statements:
            Matching(tx, Query(sort=sort, descending=descending, limit=5, owner=owner)).page(tx)
        plan = plan_of(tx, statements)
    assert "TEMP B-TREE" not in plan
    assert not re.search(r"\bSort\b", plan), plan


def test_a_round_that_finds_no_room_writes_nothing(product: Product, database: Database) -> None:
    registered(product, slots=1)
    for number in range(6):
        submitted(product, vm={"cpus": 1 + number % 2})
    with database.write() as tx, heard(database) as statements:
        assert place(tx, clock.now()) == []
    writes = [text for text, _ in statements if not text.startswith(("SELECT", "WITH"))]
    assert [text.split(" WHERE ")[0] for text in writes if "not_before=" not in text] == []
    assert len(statements) <= 6


def test_a_round_asks_no_more_when_more_tasks_wait(product: Product, database: Database) -> None:
    registered(product, slots=1)
    counts = []
    for _ in range(2):
        with database.write() as tx:
            for number in range(5 + 95 * len(counts)):
                found = manifest_of(task_id=f"{len(counts)}-{number}")
                tasks.insert(tx, f"{len(counts)}-{number}", found, at=clock.now(), message="waits", rerun_of=None)
            place(tx, clock.now())
        with database.write() as tx, heard(database) as statements:
            place(tx, clock.now())
        counts.append(len(statements))
    assert counts[0] == counts[1]


def test_the_pages_of_every_question_are_cut_from_the_same_list(product: Product, database: Database) -> None:
    registered(product, slots=3)
    for number in range(3):
        running(product, f"r{number}", priority=number)
    for number in range(14):
        labels = {"team": "red" if number % 2 else "blue", "env": "prod" if number % 3 else "test"}
        parent = "r0" if number % 4 == 0 else None
        submit_id = f"t{number:02}"
        submitted_with = manifest_of(f"name {number % 3}", task_id=submit_id, labels=labels, parent_id=parent)
        with database.write() as tx:
            at = AT + timedelta(seconds=number % 5)
            tasks.insert(tx, submit_id, submitted_with, at=at, message="waits", rerun_of=None)
    with database.read() as tx:
        everything = tasks.find(tx, Query())[0]
        for query in queries():
            matching = sorted(filter(matches(query), everything), key=place_in(query), reverse=query.descending)
            matching.sort(key=lambda task: getattr(task, query.sort) is None)
            expected = [task.id for task in matching]
            for offset in (0, 3, 6):
                found, total = tasks.find(tx, Query(**{**fields(query), "limit": 4, "offset": offset}))
                assert ([task.id for task in found], total) == (expected[offset : offset + 4], len(expected)), query


def queries() -> Iterator[Query]:
    red, prod = ("team", "red"), ("env", "prod")
    for labels in ((), (red,), (red, prod)):
        for states in ((), (State.PENDING,), (State.RUNNING, State.PENDING), (State.FAILED, State.PENDING)):
            for parent_id in (None, "r0"):
                for sort in ("created_at", "started_at", "name", "state_changed_at"):
                    for descending in (True, False):
                        yield Query(states, labels, parent_id, sort=sort, descending=descending)


def fields(query: Query) -> dict[str, Any]:
    return {name: getattr(query, name) for name in ("states", "labels", "parent_id", "sort", "descending")}


def matches(query: Query) -> Callable[[Any], bool]:
    return lambda task: (
        (not query.states or task.state in query.states)
        and set(query.labels) <= set(task.labels.items())
        and query.parent_id in {None, task.parent_id}
    )


def place_in(query: Query) -> Callable[[Any], Any]:
    def key(task: Any) -> Any:
        value = getattr(task, query.sort)
        return (value is not None, value or 0, task.id)

    return key
