"""Claims: every attempt is taken once, whoever asks how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import chain

import pytest

from orchestrator import clock
from orchestrator.journal import StaleClaim
from orchestrator.models import Claim
from orchestrator.outcomes import of_exit
from orchestrator.product import Product
from orchestrator.services.claim import advance, claim, confirm, say
from orchestrator.services.conclude import conclude
from orchestrator.services.submit import submit
from orchestrator.states import Event, State
from orchestrator.store import attempts as attempt_rows
from orchestrator.store import tasks
from orchestrator.store.database import Database
from tests.integration.store.broker import StrictBroker
from tests.integration.store.given import claimed, manifest_of, now, registered, running, submitted, together


@pytest.fixture
def another(product: Product, open_database: Callable[[], Database]) -> Callable[[], Product]:
    """The product as one more process holds it: with connections of its own."""
    return lambda: replace(product, database=open_database())


def test_a_claim_raises_attempt_and_fence_before_any_work(product: Product) -> None:
    registered(product)
    submitted(product, "t")
    task = claim(product, "w", "t", 1)
    assert task is not None
    assert (task.claim, task.state, task.worker) == (Claim("t", 1, 1), State.STAGING, "w")
    assert (task.counted_attempts, task.started_at) == (1, task.state_changed_at)
    assert task == now(product, "t")
    with product.database.read() as tx:
        (attempt,) = attempt_rows.of_task(tx, "t")
    assert (attempt.claim, attempt.worker, attempt.state) == (task.claim, "w", State.STAGING)


@pytest.mark.parametrize(
    ("worker", "task_id", "attempt"), [("other", "t", 1), ("w", "t", 0), ("w", "t", 2), ("w", "nobody", 1)]
)
def test_what_is_not_this_workers_to_take_is_left(product: Product, worker: str, task_id: str, attempt: int) -> None:
    registered(product)
    submitted(product, "t")
    before = now(product, "t")
    assert claim(product, worker, task_id, attempt) is None
    assert now(product, "t") == before


def test_a_task_that_waits_for_room_cannot_be_claimed(product: Product) -> None:
    registered(product, slots=1)
    running(product, "first")
    submitted(product, "second")
    assert claim(product, "w", "second", 1) is None


def test_200_tasks_are_claimed_once_each_by_8_claimers(
    product: Product, broker: StrictBroker, another: Callable[[], Product]
) -> None:
    with product.database.write() as tx:
        for number in range(200):
            tasks.insert(tx, f"t{number}", manifest_of(), at=clock.now(), message="waits", rerun_of=None)
    registered(product, slots=1000, cpus=1000)
    messages = broker.attempts
    assert len(messages) == 200

    def claimer(shift: int) -> Callable[[], list[Claim]]:
        mine = another()

        def take_all() -> list[Claim]:
            ordered = messages[shift * 25 :] + messages[: shift * 25]
            taken = [claim(mine, *message) for message in ordered]
            return [task.claim for task in taken if task is not None]

        return take_all

    taken = chain.from_iterable(together(*[claimer(number) for number in range(8)]))
    assert Counter(taken) == {Claim(f"t{number}", 1, 1): 1 for number in range(200)}
    with product.database.read() as tx:
        assert tasks.count_by_state(tx) == {"staging": 200}
        assert all(len(attempt_rows.of_task(tx, f"t{number}")) == 1 for number in range(200))


def test_a_message_delivered_50_times_to_4_threads_starts_one_attempt(
    product: Product, another: Callable[[], Product]
) -> None:
    registered(product)
    submitted(product, "t")
    processes = [another() for _ in range(4)]
    results = together(*[lambda one=one: [claim(one, "w", "t", 1) for _ in range(50)] for one in processes])
    assert len([task for task in chain.from_iterable(results) if task is not None]) == 1
    assert now(product, "t").claim == Claim("t", 1, 1)


def test_a_late_message_for_an_earlier_attempt_starts_nothing(product: Product) -> None:
    registered(product)
    mine = running(product, lifecycle={"retry": {"max_attempts": 2, "on": ["exit_nonzero"], "backoff": "0s"}})
    conclude(product, mine, of_exit(1, oom_killed=False))
    assert claim(product, "w", "t", 1) is None
    assert claimed(product, attempt=2).attempt == 2
    assert claim(product, "w", "t", 1) is None


def test_steps_are_recorded_with_what_is_known_of_them(product: Product) -> None:
    registered(product)
    mine = running(product, until=State.PROVISIONING)
    applied = {"cpus": {"requested": 1, "effective": 1}}
    assert advance(product, mine, State.PROVISIONING, Event.SANDBOX_VERIFIED, "verified", applied=applied) is None
    assert now(product, "t").applied == applied
    advance(product, mine, State.READY, Event.GATE_OPENED, "the command runs")
    with product.database.read() as tx:
        (attempt,) = attempt_rows.of_task(tx, "t")
    assert attempt.applied == applied
    assert attempt.running_at == now(product, "t").state_changed_at
    assert attempt.state is State.RUNNING


def test_a_step_whose_answer_was_lost_can_be_reported_again_and_counts_once(product: Product) -> None:
    registered(product)
    mine = running(product, until=State.READY)
    advance(product, mine, State.READY, Event.GATE_OPENED, "the command runs")
    before = now(product, "t")
    advance(product, mine, State.READY, Event.GATE_OPENED, "the command runs")
    assert now(product, "t") == before
    with pytest.raises(StaleClaim):
        advance(product, replace(mine, fence=9), State.READY, Event.GATE_OPENED, "the command runs")
    with pytest.raises(StaleClaim):
        advance(product, mine, State.STAGING, Event.WORKSPACE_MADE, "made")


def test_only_the_claim_in_force_is_confirmed(product: Product) -> None:
    registered(product)
    submitted(product, "t")
    task = claim(product, "w", "t", 1)
    assert task is not None
    assert task.claim is not None
    confirm(product, task.claim)
    for other in (replace(task.claim, fence=2), replace(task.claim, attempt=2), Claim("nobody", 1, 1)):
        with pytest.raises(StaleClaim):
            confirm(product, other)
    assert now(product, "t") == task


def test_what_a_task_says_of_its_state_changes_without_a_step_and_only_by_its_owner(product: Product) -> None:
    registered(product)
    mine = running(product)
    before = now(product, "t")
    say(product, mine, "its artifacts wait")
    assert now(product, "t") == replace(before, state_message="its artifacts wait")
    with pytest.raises(StaleClaim):
        say(product, replace(mine, fence=9), "somebody else's words")
    conclude(product, mine, of_exit(1, oom_killed=False))
    with pytest.raises(StaleClaim):
        say(product, mine, "too late")


def test_an_unreachable_broker_costs_nothing_the_task_is_placed_all_the_same(
    product: Product, broker: StrictBroker
) -> None:
    registered(product)
    broker.down = True
    task = submit(product, manifest_of(task_id="t"))
    assert broker.attempts == []
    assert now(product, task.id).worker == "w"
    assert claimed(product).attempt == 1
