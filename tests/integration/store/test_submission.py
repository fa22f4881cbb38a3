"""Submit, again with the same key, as a child, as a rerun; and purge."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator import clock, journal
from orchestrator.manifest import InvalidManifest
from orchestrator.models import Artifact, Kind, NewRecord
from orchestrator.outcomes import of_exit
from orchestrator.product import Product
from orchestrator.services.cancel import TaskNotFound, Wish, cancel
from orchestrator.services.conclude import conclude
from orchestrator.services.purge import NotTerminal, purge, storage_prefix
from orchestrator.services.rerun import merge, rerun
from orchestrator.services.submit import IdempotencyKeyReused, InsufficientResources, submit
from orchestrator.states import State
from orchestrator.store import artifacts, queue, tasks
from orchestrator.store import attempts as attempt_rows
from orchestrator.store.database import Database
from orchestrator.store.matching import Query
from orchestrator.store.queue import DEMANDS
from orchestrator.store.tasks import DuplicateTask
from tests.integration.store.broker import StrictBroker
from tests.integration.store.given import POLICY, manifest_of, now, registered, running, submitted, together


def stored(product: Product) -> int:
    with product.database.read() as tx:
        return tasks.find(tx, Query())[1]


def test_an_accepted_task_is_stored_placed_and_told_in_this_order(product: Product, broker: StrictBroker) -> None:
    registered(product)
    task = submitted(product)
    assert now(product, task.id).worker == "w"
    assert broker.attempts == [("w", task.id, 1)]


def test_without_a_worker_a_task_is_accepted_and_says_what_it_waits_for(product: Product) -> None:
    task = submitted(product)
    assert "no worker is registered" in str(now(product, task.id).state_message)


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        ({"vm": {"cpus": 9}}, "9 cpus are asked for and it has 8"),
        ({"vm": {"profile": "agentic-dev"}}, "does not offer the profile"),
        ({"vm": {"network_mode": "full"}}, "cannot enforce network_mode"),
    ],
)
def test_what_no_registered_worker_could_ever_hold_is_refused_and_not_stored(
    product: Product, sections: dict[str, Any], why: str
) -> None:
    registered(product)
    with pytest.raises(InsufficientResources, match=why) as caught:
        submitted(product, **sections)
    assert caught.value.best.cpus == 8
    assert stored(product) == 0


def test_a_duplicate_id_is_refused_with_the_task_that_has_it(product: Product) -> None:
    submit(product, manifest_of("first", task_id="t"))
    with pytest.raises(DuplicateTask) as caught:
        submit(product, manifest_of("second", task_id="t"))
    assert caught.value.existing.name == "first"


def test_one_of_many_submissions_of_an_id_at_once_is_accepted(
    product: Product, open_database: Callable[[], Database]
) -> None:
    registered(product)
    here = [replace(product, database=open_database()) for _ in range(6)]
    results = together(*[lambda one=one: submit(one, manifest_of(task_id="t")) for one in here])
    assert sum(isinstance(result, DuplicateTask) for result in results) == 5
    assert stored(product) == 1


def test_the_same_key_and_body_answer_with_the_same_task(product: Product, broker: StrictBroker) -> None:
    registered(product)
    first = submit(product, manifest_of("a"), idempotency_key="k")
    assert submit(product, manifest_of("a"), idempotency_key="k").id == first.id
    assert submit(product, manifest_of("a"), idempotency_key="other").id != first.id
    assert (stored(product), len(broker.attempts)) == (2, 2)


def test_the_same_key_with_another_body_is_refused(product: Product) -> None:
    first = submit(product, manifest_of("a"), idempotency_key="k")
    with pytest.raises(IdempotencyKeyReused, match=f"'k' was used for another request, which made task {first.id}"):
        submit(product, manifest_of("b"), idempotency_key="k")
    assert stored(product) == 1


def test_a_refused_submission_uses_up_no_key(product: Product) -> None:
    registered(product)
    with pytest.raises(InsufficientResources):
        submit(product, manifest_of(vm={"cpus": 99}), idempotency_key="k")
    assert submit(product, manifest_of(), idempotency_key="k").state is State.PENDING


def test_a_key_sent_many_times_at_once_makes_one_task(product: Product, open_database: Callable[[], Database]) -> None:
    registered(product)
    here = [replace(product, database=open_database()) for _ in range(6)]
    results = together(*[lambda one=one: submit(one, manifest_of("a"), idempotency_key="k").id for one in here])
    assert len(set(results)) == 1, results
    assert stored(product) == 1


def test_a_parent_must_exist(product: Product) -> None:
    with pytest.raises(InvalidManifest) as caught:
        submitted(product, parent_id="nobody")
    (error,) = caught.value.errors
    assert (error.field, error.pointer) == ("parent_id", "/parent_id")
    assert "'nobody' is no existing task" in error.message
    parent = submitted(product)
    child = submitted(product, parent_id=parent.id)
    with product.database.read() as tx:
        assert tasks.children_of(tx, parent.id) == [child.id]


def test_a_crowd_that_waits_for_one_worker_does_not_hide_the_task_that_fits_another(product: Product) -> None:
    registered(product, "special", profiles=("agentic-dev",), slots=1)
    with product.database.write() as tx:
        for number in range(DEMANDS + 5):
            found = manifest_of(vm={"profile": "agentic-dev"}, priority=1)
            tasks.insert(tx, f"crowd{number}", found, at=clock.now(), message="waits", rerun_of=None)
    registered(product, "w")
    task = submitted(product, "t")
    assert now(product, task.id).worker == "w"
    assert submitted(product, "u", priority=-100).id == "u"
    assert now(product, "u").worker == "w"


def test_placements_and_cancellations_at_once_do_not_wait_for_each_other_for_ever(
    product: Product, open_database: Callable[[], Database]
) -> None:
    here = [replace(product, database=open_database()) for _ in range(6)]
    names = [f"t{number}" for number in range(24)]
    for name in names:
        submitted(product, name)

    def come_and_go(one: Product, number: int) -> None:
        for _ in range(4):
            registered(one, f"w{number}", slots=8)

    def cancel_some(one: Product, number: int) -> list[State]:
        return [cancel(one, name, Wish("somebody")).state for name in names[number::3]]

    results = together(
        *[lambda one=one, number=number: come_and_go(one, number) for number, one in enumerate(here[:3])],
        *[lambda one=one, number=number: cancel_some(one, number) for number, one in enumerate(here[3:])],
    )
    assert results == [None] * 3 + [[State.CANCELLED] * 8] * 3
    with product.database.read() as tx:
        assert tasks.count_by_state(tx) == {"cancelled": 24}
        assert queue.held_by_worker(tx) == {}


def test_a_rerun_is_a_new_task_of_the_same_definition(product: Product) -> None:
    first = submit(product, manifest_of("a", task_id="t", labels={"k": "v"}, priority=3))
    again = rerun(product, "t", {}, POLICY)
    assert again.id != "t"
    assert (again.rerun_of, again.name, again.labels, again.priority) == ("t", "a", {"k": "v"}, 3)
    expected = {**first.definition, "metadata": {**first.definition["metadata"], "id": None}}
    assert again.definition == expected


def test_a_rerun_is_changed_by_a_merge_patch(product: Product) -> None:
    submit(product, manifest_of(task_id="t", labels={"a": "1", "b": "2"}, lifecycle={"timeout": "5m"}))
    patch = {
        "metadata": {"id": "again", "labels": {"a": None, "c": "3"}},
        "vm": {"cpus": 2},
        "lifecycle": None,
        "run": {"command": None, "script": "true"},
    }
    again = rerun(product, "t", patch, POLICY)
    assert (again.id, again.labels, again.requested.cpus) == ("again", {"b": "2", "c": "3"}, 2)
    assert again.definition["lifecycle"]["timeout"] == "24h"
    assert again.definition["run"]["script"] == "true"
    assert now(product, "t").labels == {"a": "1", "b": "2"}


def test_a_rerun_that_its_patch_makes_invalid_is_refused(product: Product) -> None:
    submitted(product, "t")
    with pytest.raises(InvalidManifest):
        rerun(product, "t", {"vm": {"cpus": -1}}, POLICY)
    with pytest.raises(DuplicateTask):
        rerun(product, "t", {"metadata": {"id": "t"}}, POLICY)
    with pytest.raises(TaskNotFound):
        rerun(product, "nobody", {}, POLICY)


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_is_rfc_7396_to_the_letter(target: Any, patch: Any, expected: Any) -> None:
    assert merge(target, patch) == expected


def with_data(product: Product) -> None:
    """An ended task with output, an artifact and a preserved sandbox."""
    registered(product)
    mine = running(product, lifecycle={"failure_action": "preserve"})
    key = f"{storage_prefix('t')}/1/out.txt"
    found = product.artifacts.put(key, io.BytesIO(b"hello"), limit=10)
    one = Artifact("t", 1, "out.txt", found.size_bytes, "text/plain", found.sha256, clock.now(), key)
    with product.database.write() as tx:
        artifacts.replace_all(tx, "t", 1, [one])
        artifacts.replace_all(tx, "t", 1, [one])  # a repeated collection replaces the first
        output = journal.output("stdout", b"secret\n", clock.now())
        journal.append(tx, mine, [output, NewRecord(Kind.SYSTEM, clock.now(), "system", {"message": "m"})])
        assert artifacts.of_task(tx, "t", 1) == [one]
    conclude(product, mine, of_exit(1, oom_killed=False), preserve_hint="look")


def test_a_purge_removes_log_artifacts_and_preserved_sandbox_and_keeps_the_row(product: Product) -> None:
    with_data(product)
    before = now(product, "t")
    purge(product, "t")
    task = now(product, "t")
    assert task.purged_at is not None
    assert (task.state, task.outcome, task.definition) == (State.FAILED_PRESERVED, before.outcome, before.definition)
    with product.database.read() as tx:
        assert artifacts.of_task(tx, "t", 1) == []
        assert {row.kind for row in journal.after(tx, "t", 0)} == {Kind.STATE_CHANGE}
        assert [one.task_id for one in attempt_rows.preserved_due(tx, "w", clock.now())] == ["t"]
    with pytest.raises(KeyError):
        product.artifacts.open(f"{storage_prefix('t')}/1/out.txt")
    purge(product, "t")


def test_only_an_ended_task_can_be_purged(product: Product) -> None:
    submitted(product, "t")
    with pytest.raises(NotTerminal, match="only ended tasks can be purged; cancel it first"):
        purge(product, "t")
    with pytest.raises(TaskNotFound):
        purge(product, "nobody")
