"""Endings: success, failure, retry, preservation, cancellation; and who wins when two come at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator import journal
from orchestrator.journal import StaleClaim
from orchestrator.models import Claim, Kind, Record
from orchestrator.outcomes import Outcome, Reason, failure, of_exit
from orchestrator.product import Product
from orchestrator.services.cancel import AlreadyTerminal, TaskNotFound, Wish, cancel, confirmed
from orchestrator.services.claim import advance, claim
from orchestrator.services.conclude import MAX_UNCOUNTED_LOSSES, CancelRequested, conclude, give_back
from orchestrator.states import TERMINAL, Event, State
from orchestrator.store import attempts as attempt_rows
from orchestrator.store import queue
from orchestrator.store.database import Database
from tests.integration.store.broker import StrictBroker
from tests.integration.store.given import aged, claimed, now, registered, running, submitted, together

OK = of_exit(0, oom_killed=False)
BAD = of_exit(3, oom_killed=False)
BROKEN = failure(Reason.SANDBOX_ERROR, "the engine did not answer")
WISH = Wish("somebody", "no longer needed")


def retrying(*reasons: str, attempts: int = 3, backoff: str = "0s") -> dict[str, object]:
    return {"retry": {"max_attempts": attempts, "on": list(reasons), "backoff": backoff}}


@pytest.fixture
def mine(product: Product) -> Claim:
    registered(product)
    return running(product, until=State.COMPLETING)


def changes(product: Product, task_id: str = "t") -> list[Record]:
    with product.database.read() as tx:
        return [row for row in journal.after(tx, task_id, 0) if row.kind is Kind.STATE_CHANGE]


@pytest.mark.parametrize(
    ("outcome", "state"),
    [(OK, State.COMPLETED), (BAD, State.FAILED), (BROKEN, State.FAILED)],
)
def test_an_ending_is_stored_with_its_outcome(product: Product, mine: Claim, outcome: Outcome, state: State) -> None:
    assert conclude(product, mine, outcome) is state
    task = now(product, "t")
    assert (task.state, task.outcome, task.exit_code) == (state, outcome, outcome.exit_code)
    assert task.finished_at == task.state_changed_at
    assert task.state_message == outcome.message
    last = changes(product)[-1]
    assert (last.body["new_state"], last.body["outcome"]["reason"]) == (state, outcome.reason)


def test_an_ending_whose_answer_was_lost_can_be_reported_again_and_counts_once(product: Product, mine: Claim) -> None:
    conclude(product, mine, BAD, preserve_hint="look")
    before = now(product, "t")
    assert conclude(product, mine, BAD, preserve_hint="look") is State.FAILED_PRESERVED
    assert now(product, "t") == before


def test_a_stale_worker_ends_nothing(product: Product, mine: Claim) -> None:
    for stale in (Claim("t", 1, 2), Claim("t", 2, 2), Claim("nobody", 1, 1)):
        with pytest.raises(StaleClaim):
            conclude(product, stale, OK)
    assert now(product, "t").state is State.COMPLETING


def test_a_failure_is_preserved_with_its_hint_and_a_date(product: Product) -> None:
    registered(product)
    mine = running(product, lifecycle={"failure_action": "preserve", "preserve_for": "2h"})
    assert conclude(product, mine, BAD, preserve_hint="docker cp x") is State.FAILED_PRESERVED
    task = now(product, "t")
    assert task.outcome == replace(BAD, hint="docker cp x")
    assert task.finished_at is not None
    assert task.preserve_until == task.finished_at + timedelta(hours=2)
    with product.database.read() as tx:
        assert attempt_rows.preserved_on(tx, "w") == {mine}
        assert attempt_rows.preserved_due(tx, "w", task.finished_at) == []
        (due,) = attempt_rows.preserved_due(tx, "w", task.preserve_until)
    assert due.claim == mine
    with product.database.write() as tx:
        attempt_rows.release_preserved(tx, "t")
    with product.database.read() as tx:
        assert attempt_rows.preserved_on(tx, "w") == set()
    assert now(product, "t").state is State.FAILED_PRESERVED


def test_a_failure_that_a_retry_follows_is_not_preserved(product: Product) -> None:
    registered(product)
    mine = running(product, lifecycle={"failure_action": "preserve", **retrying("exit_nonzero")})
    assert conclude(product, mine, BAD, preserve_hint="docker cp x") is State.PENDING
    with product.database.read() as tx:
        assert attempt_rows.preserved_on(tx, "w") == set()


def test_a_retry_returns_the_task_to_pending_and_names_attempt_and_reason(product: Product) -> None:
    registered(product)
    mine = running(product, lifecycle=retrying("exit_nonzero"))
    started_at = now(product, "t").started_at
    assert conclude(product, mine, BAD) is State.PENDING
    task = now(product, "t")
    assert (task.outcome, task.exit_code, task.finished_at, task.started_at) == (None, None, None, started_at)
    last = changes(product)[-1]
    assert (last.attempt, last.body["new_state"], last.body["reason"]) == (1, "pending", "exit_nonzero")
    assert last.body["state_message"].startswith("attempt 1 ended: the command ended with exit code 3")
    again = claimed(product, attempt=2)
    assert again.fence > mine.fence
    assert now(product, "t").started_at == started_at


def test_the_last_attempt_ends_the_task_and_every_attempt_keeps_its_own_outcome(product: Product) -> None:
    registered(product)
    mine = running(product, lifecycle=retrying("exit_nonzero", "sandbox_error", attempts=2))
    conclude(product, mine, BROKEN)
    assert conclude(product, claimed(product, attempt=2), BAD) is State.FAILED
    with product.database.read() as tx:
        attempts = attempt_rows.of_task(tx, "t")
    assert [(one.number, one.state, one.outcome) for one in attempts] == [
        (1, State.FAILED, BROKEN), (2, State.FAILED, BAD),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "again"), [(BROKEN, True), (BAD, False), (failure(Reason.TIMEOUT, "too long"), False), (OK, False)]
)
def test_by_default_only_the_platforms_faults_are_retried(product: Product, outcome: Outcome, again: bool) -> None:
    registered(product)
    mine = running(product, until=State.COMPLETING, lifecycle={"retry": {"max_attempts": 2}})
    assert (conclude(product, mine, outcome) is State.PENDING) is again


def test_a_retry_waits_for_its_backoff(product: Product, broker: StrictBroker) -> None:
    registered(product)
    conclude(product, running(product, lifecycle=retrying("exit_nonzero", backoff="5m")), BAD)
    registered(product, "another")
    assert now(product, "t").worker is None
    assert claim(product, "w", "t", 2) is None
    aged(product, "t", 301)
    registered(product, "third")
    assert broker.attempts[-1][1:] == ("t", 2)


def test_the_queue_timeout_of_a_retry_begins_when_it_may_be_placed(product: Product) -> None:
    registered(product, slots=1)
    lifecycle = {"queue_timeout": "1m", **retrying("exit_nonzero", backoff="10m")}
    mine = running(product, lifecycle=lifecycle)
    aged(product, "t", 3600)
    conclude(product, mine, BAD)
    at = now(product, "t").state_changed_at
    with product.database.read() as tx:
        assert queue.overdue_in_queue(tx, at + timedelta(minutes=10, seconds=59)) == []
        assert [task.id for task in queue.overdue_in_queue(tx, at + timedelta(minutes=11))] == ["t"]


def test_an_ending_makes_room_for_who_waited(product: Product, broker: StrictBroker) -> None:
    registered(product, slots=1)
    mine = running(product, until=State.COMPLETING)
    submitted(product, "next")
    assert now(product, "next").state_message == "waits: w: all 1 slots are taken"
    conclude(product, mine, OK)
    assert broker.attempts[-1] == ("w", "next", 1)
    assert now(product, "next").state_message == "placed on worker w; waits to be claimed"


def test_a_pending_task_is_cancelled_at_once(product: Product, broker: StrictBroker) -> None:
    submitted(product, "t")
    task = cancel(product, "t", WISH)
    assert task.state is State.CANCELLED
    assert task.outcome is not None
    assert (task.outcome.reason, task.outcome.message) == (Reason.CANCELLED, "cancelled by somebody: no longer needed")
    assert task.cancellation is not None
    assert task.cancellation.previous_state is State.PENDING
    assert broker.cancels == []
    with pytest.raises(AlreadyTerminal):
        cancel(product, "t", WISH)
    with pytest.raises(TaskNotFound):
        cancel(product, "nobody", WISH)


def test_a_cancelled_wait_for_a_retry_leaves_the_ended_attempt_as_it_was(product: Product) -> None:
    registered(product)
    conclude(product, running(product, lifecycle=retrying("exit_nonzero", backoff="5m")), BAD)
    with product.database.read() as tx:
        before = attempt_rows.of_task(tx, "t")
    assert cancel(product, "t", WISH).state is State.CANCELLED
    with product.database.read() as tx:
        assert attempt_rows.of_task(tx, "t") == before


def test_a_cancelled_task_frees_what_was_held_for_it(product: Product, broker: StrictBroker) -> None:
    registered(product, slots=1)
    submitted(product, "t")
    submitted(product, "next")
    cancel(product, "t", WISH)
    assert broker.attempts == [("w", "t", 1), ("w", "next", 1)]
    assert claim(product, "w", "t", 1) is None


def test_a_workers_task_is_cancelled_when_the_worker_confirms_it(product: Product, broker: StrictBroker) -> None:
    registered(product)
    mine = running(product)
    task = cancel(product, "t", WISH)
    assert (task.state, broker.cancels) == (State.RUNNING, [("w", "t", 1)])
    with pytest.raises(CancelRequested):
        conclude(product, mine, OK)
    wish = advance(product, mine, State.RUNNING, Event.ENDED, "it is being stopped")
    assert wish == task.cancellation
    assert conclude(product, mine, confirmed(now(product, "t"), 143)) is State.CANCELLED
    assert now(product, "t").exit_code == 143


def test_a_second_wish_may_only_add_force(product: Product) -> None:
    registered(product)
    running(product)
    first = cancel(product, "t", WISH).cancellation
    assert first is not None
    harder = cancel(product, "t", Wish("another", "now!", force=True)).cancellation
    assert harder == replace(first, force=True)
    assert cancel(product, "t", WISH).cancellation == harder


def test_a_wish_is_kept_when_the_broker_is_away(product: Product, broker: StrictBroker) -> None:
    registered(product)
    running(product)
    broker.down = True
    assert cancel(product, "t", WISH).cancellation is not None
    assert now(product, "t").cancellation is not None


def test_cancelled_is_never_retried(product: Product) -> None:
    registered(product)
    mine = running(product, lifecycle=retrying("exit_nonzero"))
    cancel(product, "t", WISH)
    with pytest.raises(CancelRequested):
        conclude(product, mine, BAD)
    assert conclude(product, mine, confirmed(now(product, "t"))) is State.CANCELLED


def test_cancel_and_conclude_at_once_have_one_winner_and_an_accepted_cancel_ends_cancelled(
    product: Product, open_database: Callable[[], Database]
) -> None:
    rounds = 200
    registered(product, slots=2 * rounds, cpus=2 * rounds)
    claims = [running(product, f"t{number}", until=State.STAGING) for number in range(rounds)]
    one, other = (replace(product, database=open_database()) for _ in range(2))
    accepted, won = 0, 0
    for mine in claims:
        wish, ending = together(lambda: cancel(one, mine.task_id, WISH), lambda: conclude(other, mine, BAD))  # noqa: B023
        if isinstance(ending, CancelRequested):
            assert not isinstance(wish, Exception), wish
            assert conclude(other, mine, confirmed(now(product, mine.task_id))) is State.CANCELLED
            accepted += 1
        else:
            assert ending is State.FAILED
            assert isinstance(wish, AlreadyTerminal), wish
            won += 1
        ends = [row for row in changes(product, mine.task_id) if State(row.body["new_state"]) in TERMINAL]
        assert len(ends) == 1
        assert now(product, mine.task_id).state is State(ends[0].body["new_state"])
    assert accepted + won == rounds


def test_a_cancel_that_meets_a_claim_or_a_step_is_accepted(
    product: Product, open_database: Callable[[], Database]
) -> None:
    registered(product, slots=200, cpus=200)
    one, other = (replace(product, database=open_database()) for _ in range(2))
    for number in range(40):
        task_id = f"t{number}"
        submitted(product, task_id)
        if number % 2:
            wish, taken = together(lambda: cancel(one, task_id, WISH), lambda: claim(other, "w", task_id, 1))  # noqa: B023
            assert not isinstance(taken, Exception), taken
            assert (taken is None) == (wish.state is State.CANCELLED)
        else:
            mine = claimed(product, task_id)
            step = (mine, State.STAGING, Event.WORKSPACE_MADE, "made")
            wish, taken = together(lambda: cancel(one, task_id, WISH), lambda: advance(other, *step))  # noqa: B023
            assert not isinstance(taken, Exception), taken
            assert now(product, task_id).state is State.PROVISIONING
        assert wish.cancellation is not None
        assert now(product, task_id).cancellation == wish.cancellation


def test_what_was_given_back_before_it_ran_is_placed_again_without_counting(
    product: Product, broker: StrictBroker
) -> None:
    registered(product)
    mine = running(product, until=State.READY)
    give_back(product, mine, "w", "the worker was stopped before the task ran")
    task = now(product, "t")
    assert (task.state, task.counted_attempts, task.uncounted_losses) == (State.PENDING, 0, 1)
    assert broker.attempts[-1] == ("w", "t", 2)
    with product.database.read() as tx:
        (attempt,) = attempt_rows.of_task(tx, "t")
    assert attempt.outcome is not None
    assert (attempt.state, attempt.outcome.reason) == (State.FAILED, Reason.WORKER_LOST)
    assert changes(product)[-1].body["reason"] == "worker_lost"
    with pytest.raises(StaleClaim):
        give_back(product, mine, "w", "again")


def test_an_attempt_that_was_announced_and_given_back_before_its_gate_opened_did_not_start(product: Product) -> None:
    registered(product)
    mine = running(product)
    with product.database.read() as tx:
        assert attempt_rows.of_task(tx, "t")[0].running_at is not None
    give_back(product, mine, "w", "the worker was started again before the task ran")
    with product.database.read() as tx:
        (attempt,) = attempt_rows.of_task(tx, "t")
    assert (attempt.running_at, attempt.running_clock) == (None, None)
    assert (attempt.state, attempt.finished_at is None) == (State.FAILED, False)


def test_a_worker_in_trouble_gives_back_and_gets_nothing_until_it_is_well(product: Product) -> None:
    registered(product)
    give_back(product, running(product, until=State.STAGING), "w", "the engine went away", trouble="no engine")
    task = now(product, "t")
    assert (task.worker, task.state_message) == (None, "waits: w: no engine")


def test_after_three_uncounted_losses_the_next_one_ends_the_task(product: Product) -> None:
    registered(product)
    submitted(product, "t")
    for number in range(1, MAX_UNCOUNTED_LOSSES + 1):
        give_back(product, claimed(product, attempt=number), "w", "lost")
        assert now(product, "t").state is State.PENDING
    give_back(product, claimed(product, attempt=4), "w", "lost")
    task = now(product, "t")
    assert task.outcome is not None
    assert (task.state, task.outcome.reason) == (State.FAILED, Reason.WORKER_LOST)
