"""What nobody else would notice: lost workers, lost messages, waits that are over."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator import clock, journal
from orchestrator.journal import StaleClaim
from orchestrator.models import Claim, WorkerState
from orchestrator.outcomes import Reason, of_exit
from orchestrator.product import Product
from orchestrator.reaper import Reaper
from orchestrator.services import fleet
from orchestrator.services.cancel import Wish, cancel
from orchestrator.services.claim import claim
from orchestrator.services.conclude import conclude
from orchestrator.services.reap import RESEND_AFTER
from orchestrator.states import State
from orchestrator.store import attempts as attempt_rows
from orchestrator.store import queue, tasks
from orchestrator.store.database import Database
from orchestrator.store.workers import UnknownWorker
from tests.integration.store.broker import StrictBroker
from tests.integration.store.given import aged, claimed, now, registered, running, submitted, worker_now

LEASE, STOP_AFTER = 30, 35


class Watch:
    """A reaper whose clock moves only when told to; it sweeps once a second, and only the named workers beat."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._reaper = Reaper(product)
        self._now = 1000.0

    def pass_time(self, seconds: int, *beating: str) -> None:
        for second in range(seconds):
            self._now += 1
            if second % 5 == 0:
                for name in beating:
                    fleet.heartbeat(self._product, name, None)
            self._reaper.sweep(self._now)


@pytest.fixture
def watch(product: Product) -> Watch:
    return Watch(product)


@pytest.fixture
def three(product: Product) -> None:
    """`w` and two workers that offer another profile: what `w` loses can go nowhere else."""
    registered(product)
    registered(product, "b", profiles=("agentic-dev",))
    registered(product, "c", profiles=("agentic-dev",))


def test_a_silent_worker_is_lost_and_what_it_had_not_claimed_goes_elsewhere(
    product: Product, watch: Watch, broker: StrictBroker
) -> None:
    registered(product, "a")
    submitted(product, "t")
    registered(product, "b")
    registered(product, "c")
    watch.pass_time(LEASE + 2, "b", "c")
    assert worker_now(product, "a").state is WorkerState.LOST
    assert now(product, "t").worker in {"b", "c"}
    assert broker.attempts[-1] == (now(product, "t").worker, "t", 1)
    assert claim(product, "a", "t", 1) is None


def test_a_lost_worker_keeps_its_attempts_until_its_keeper_has_stopped_them(
    product: Product, watch: Watch, three: None
) -> None:
    mine = running(product)
    watch.pass_time(LEASE + STOP_AFTER, "b", "c")
    assert worker_now(product, "w").state is WorkerState.LOST
    assert str(worker_now(product, "w").trouble).startswith("worker w says nothing since ")
    assert now(product, "t").claim == mine
    assert now(product, "t").state is State.RUNNING
    assert str(now(product, "t").state_message).startswith("worker w says nothing since ")
    watch.pass_time(3, "b", "c")
    task = now(product, "t")
    assert task.outcome is not None
    assert (task.state, task.outcome.reason) == (State.FAILED, Reason.WORKER_LOST)
    assert "the sandbox may run too" in task.outcome.message


def test_what_had_not_begun_to_run_on_a_lost_worker_is_placed_again_without_counting(
    product: Product, watch: Watch, three: None, broker: StrictBroker
) -> None:
    mine = running(product, until=State.READY)
    watch.pass_time(LEASE + STOP_AFTER + 3, "b", "c")
    task = now(product, "t")
    assert (task.state, task.worker, task.counted_attempts, task.uncounted_losses) == (State.PENDING, None, 0, 1)
    assert "w: it is lost; start it again with `sandbox worker --name w`" in str(task.state_message)
    fleet.heartbeat(product, "w", None)
    assert broker.attempts[-1] == ("w", "t", 2)
    assert claimed(product, attempt=2).fence > mine.fence


def test_what_ran_on_a_lost_worker_follows_its_retry(product: Product, watch: Watch, three: None) -> None:
    running(product, lifecycle={"retry": {"max_attempts": 2, "backoff": "1h"}})
    watch.pass_time(LEASE + STOP_AFTER + 3, "b", "c")
    task = now(product, "t")
    assert (task.state, task.counted_attempts, task.uncounted_losses) == (State.PENDING, 1, 0)


def test_a_lost_worker_that_comes_back_in_time_goes_on(product: Product, watch: Watch, three: None) -> None:
    mine = running(product, until=State.COMPLETING)
    watch.pass_time(LEASE + 10, "b", "c")
    assert worker_now(product, "w").state is WorkerState.LOST
    watch.pass_time(2 * LEASE, "w", "b", "c")
    assert worker_now(product, "w").state is WorkerState.ACTIVE
    assert now(product, "t").state_message == "worker w is back, and goes on with it"
    assert conclude(product, mine, of_exit(0, oom_killed=False)) is State.COMPLETED


@pytest.mark.parametrize("until", [State.READY, State.RUNNING])
def test_everything_a_worker_still_writes_about_an_attempt_it_lost_is_refused(
    product: Product, watch: Watch, three: None, until: State
) -> None:
    mine = running(product, until=until)
    watch.pass_time(LEASE + STOP_AFTER + 3, "b", "c")
    before = now(product, "t")
    with pytest.raises(StaleClaim):
        conclude(product, mine, of_exit(0, oom_killed=False))
    with pytest.raises(StaleClaim), product.database.write() as tx:
        journal.append(tx, mine, [journal.output("stdout", b"late\n", clock.now())])
    with pytest.raises(StaleClaim), product.database.write() as tx:
        attempt_rows.note(tx, mine, image="late")
    assert now(product, "t") == before


def test_when_all_fall_silent_at_once_nobody_is_lost_for_one_more_lease(
    product: Product, watch: Watch, three: None
) -> None:
    watch.pass_time(2 * LEASE)
    assert {worker_now(product, name).state for name in "wbc"} == {WorkerState.ACTIVE}
    watch.pass_time(2)
    assert {worker_now(product, name).state for name in "wbc"} == {WorkerState.LOST}


def test_stopped_workers_do_not_hold_up_that_a_lost_one_is_seen(product: Product, watch: Watch) -> None:
    for name in "abcdefg":
        registered(product, name)
    for name in "defg":
        fleet.stop(product, name, 0)
    watch.pass_time(LEASE + 2, "b", "c")
    assert worker_now(product, "a").state is WorkerState.LOST
    assert worker_now(product, "d").state is WorkerState.STOPPED


def test_the_attempts_of_a_stopped_worker_wait_for_its_return_until_the_window_is_over(
    product: Product, watch: Watch, three: None
) -> None:
    mine = running(product)
    fleet.stop(product, "w", 900)
    watch.pass_time(LEASE + STOP_AFTER + 60, "b", "c")
    assert now(product, "t").claim == mine
    registered(product)  # it is back under its name
    watch.pass_time(5, "w", "b", "c")
    assert now(product, "t").state is State.RUNNING
    fleet.stop(product, "w", 60)
    watch.pass_time(60 + LEASE // 2 + 5, "b", "c")
    assert now(product, "t").state is State.RUNNING, "its keeper may still be stopping the sandbox"
    watch.pass_time(3, "b", "c")
    task = now(product, "t")
    assert task.outcome is not None
    assert (task.state, task.outcome.reason) == (State.FAILED, Reason.WORKER_LOST)


def test_a_stopped_worker_gives_back_what_it_had_not_claimed_and_gets_nothing_new(
    product: Product, broker: StrictBroker
) -> None:
    registered(product)
    submitted(product, "t")
    fleet.stop(product, "w", 900)
    submitted(product, "later")
    for task_id in ("t", "later"):
        task = now(product, task_id)
        assert task.worker is None
        assert "it is stopped" in str(task.state_message)
    registered(product, "other")
    assert {message[0] for message in broker.attempts[1:]} == {"other"}


def test_a_heartbeat_that_comes_after_the_goodbye_does_not_bring_a_worker_back(product: Product) -> None:
    registered(product)
    running(product)
    fleet.stop(product, "w", 900)
    fleet.heartbeat(product, "w", None)
    assert worker_now(product, "w").state is WorkerState.STOPPED
    submitted(product, "later")
    assert now(product, "later").worker is None


def test_a_worker_in_trouble_loses_what_it_had_not_claimed_until_it_is_well(
    product: Product, broker: StrictBroker
) -> None:
    registered(product)
    submitted(product, "t")
    fleet.heartbeat(product, "w", "the engine is away")
    assert now(product, "t").state_message == "waits: w: the engine is away"
    fleet.heartbeat(product, "w", "the engine is away")
    fleet.heartbeat(product, "w", None)
    assert broker.attempts == [("w", "t", 1), ("w", "t", 1)]


def test_a_name_belongs_to_one_machine_while_its_worker_may_live(product: Product, watch: Watch) -> None:
    registered(product, "w", host_id="here")
    with pytest.raises(fleet.WorkerNameTaken, match="a worker named w is registered from another host"):
        registered(product, "w", host_id="there")
    with pytest.raises(fleet.WorkerNameTaken):
        fleet.heartbeat(product, "w", None, host_id="there")
    mine = running(product)
    fleet.stop(product, "w", 900)
    with pytest.raises(fleet.WorkerNameTaken, match="sandbox workers remove w --force"):
        registered(product, "w", host_id="there")
    fleet.remove(product, "w", force=True)
    registered(product, "w", host_id="there")
    assert now(product, mine.task_id).state is State.FAILED


def test_a_stopped_worker_without_attempts_may_move_to_another_machine(product: Product) -> None:
    registered(product, "w", host_id="here")
    fleet.stop(product, "w", 900)
    registered(product, "w", host_id="there")
    assert worker_now(product, "w").host_id == "there"


def test_a_draining_worker_finishes_what_it_has_and_takes_nothing_new(product: Product, broker: StrictBroker) -> None:
    registered(product, slots=2)
    mine = running(product, until=State.COMPLETING)
    submitted(product, "placed")
    worker = fleet.drain(product, "w", deadline_seconds=60)
    assert worker.draining
    assert worker.drain_until is not None
    assert now(product, "placed").worker is None
    assert "it is draining; `sandbox workers resume w`" in str(now(product, "placed").state_message)
    registered(product, slots=2)  # a restart does not end a drain
    assert worker_now(product, "w").draining
    assert conclude(product, mine, of_exit(0, oom_killed=False)) is State.COMPLETED
    assert now(product, "placed").worker is None
    fleet.resume(product, "w")
    assert now(product, "placed").worker == "w"
    assert broker.attempts[-1] == ("w", "placed", 1)


def test_a_worker_is_removed_only_when_nothing_can_be_lost_by_it(product: Product) -> None:
    registered(product)
    mine = running(product)
    with pytest.raises(fleet.WorkerInUse, match="worker w is active: drain it"):
        fleet.remove(product, "w", force=True)
    fleet.stop(product, "w", 900)
    with pytest.raises(fleet.WorkerInUse, match="worker w still has 1 attempts \\(t\\)"):
        fleet.remove(product, "w")
    fleet.remove(product, "w", force=True)
    task = now(product, mine.task_id)
    assert task.outcome is not None
    assert (task.state, task.outcome.reason) == (State.FAILED, Reason.WORKER_LOST)
    with pytest.raises(UnknownWorker):
        fleet.remove(product, "w")


def test_the_heartbeat_of_a_removed_worker_says_what_to_do(product: Product) -> None:
    with pytest.raises(UnknownWorker, match=r"no worker named nobody is registered.*started again, registers it"):
        fleet.heartbeat(product, "nobody", None)


def test_a_message_that_was_lost_is_sent_again_until_it_is_claimed(
    product: Product, watch: Watch, broker: StrictBroker
) -> None:
    registered(product)
    broker.down = True
    submitted(product, "t")
    watch.pass_time(2, "w")
    assert broker.attempts == []
    broker.down = False
    for expected in (1, 2):
        aged(product, "t", RESEND_AFTER.total_seconds() + 1)
        watch.pass_time(3, "w")
        assert broker.attempts == [("w", "t", 1)] * expected
    claimed(product)
    aged(product, "t", 60)
    watch.pass_time(3, "w")
    assert len(broker.attempts) == 2


def test_a_task_that_waited_longer_than_its_queue_timeout_fails_with_the_reason_it_waited(
    product: Product, watch: Watch
) -> None:
    submitted(product, "t", lifecycle={"queue_timeout": "5m"})
    submitted(product, "patient")
    watch.pass_time(2)
    assert now(product, "t").state is State.PENDING
    aged(product, "t", 301)
    watch.pass_time(1)
    task = now(product, "t")
    assert task.outcome is not None
    assert (task.state, task.outcome.reason, task.outcome.exit_code) == (State.FAILED, Reason.QUEUE_EXPIRED, None)
    assert "no worker is registered" in task.outcome.message
    assert now(product, "patient").state is State.PENDING


def test_a_task_that_expired_unclaimed_makes_room_for_who_waited(
    product: Product, watch: Watch, broker: StrictBroker
) -> None:
    registered(product, slots=1)
    submitted(product, "t", lifecycle={"queue_timeout": "5m"})
    submitted(product, "next")
    aged(product, "t", 301)
    watch.pass_time(1, "w")
    assert now(product, "t").state is State.FAILED
    assert broker.attempts[-1] == ("w", "next", 1)


def test_a_retry_is_placed_when_its_backoff_is_over(product: Product, watch: Watch, broker: StrictBroker) -> None:
    registered(product)
    lifecycle = {"retry": {"max_attempts": 2, "on": ["exit_nonzero"], "backoff": "5m"}}
    conclude(product, running(product, lifecycle=lifecycle), of_exit(1, oom_killed=False))
    watch.pass_time(2, "w")
    assert len(broker.attempts) == 1
    aged(product, "t", 301)
    watch.pass_time(1, "w")
    assert broker.attempts[-1] == ("w", "t", 2)


def test_a_retry_whose_backoff_is_over_but_finds_no_room_does_not_keep_the_reaper_busy(
    product: Product, watch: Watch
) -> None:
    registered(product, slots=1)
    lifecycle = {"retry": {"max_attempts": 2, "on": ["exit_nonzero"], "backoff": "5m"}}
    conclude(product, running(product, lifecycle=lifecycle), of_exit(1, oom_killed=False))
    running(product, "blocker")
    aged(product, "t", 301)
    watch.pass_time(1, "w")
    assert now(product, "t").state_message == "waits: w: all 1 slots are taken"
    with product.database.read() as tx:
        assert not queue.next_backoff_over(tx, clock.now())


def test_the_reaper_looks_after_retention_without_waiting_for_it(product: Product) -> None:
    registered(product)
    conclude(product, running(product, "old", until=State.COMPLETING), of_exit(0, oom_killed=False))
    aged(product, "old", timedelta(days=31).total_seconds())
    reaper = Reaper(product)
    reaper.start()
    deadline = time.monotonic() + 60
    while is_there(product, "old"):
        assert time.monotonic() < deadline, "the old task is still there"
        time.sleep(0.01)
    reaper.stop()


def is_there(product: Product, task_id: str) -> bool:
    with product.database.read() as tx:
        return tasks.get(tx, task_id) is not None


def test_a_cancelled_task_of_a_lost_worker_does_not_stay_open_for_ever(
    product: Product, watch: Watch, three: None
) -> None:
    running(product, until=State.STAGING)
    cancel(product, "t", Wish("somebody"))
    watch.pass_time(LEASE + STOP_AFTER + 3, "b", "c")
    assert now(product, "t").is_terminal


def test_a_started_reaper_does_its_duties_by_itself_and_one_at_a_time(
    product: Product, broker: StrictBroker, open_database: Callable[[], Database]
) -> None:
    quick = replace(product, settings=replace(product.settings, lease_seconds=0.2))
    reapers = [Reaper(replace(quick, database=open_database())) for _ in range(3)]
    registered(product)
    submitted(product, "t")
    aged(product, "t", 60)
    broker.attempts.clear()
    for reaper in reapers:
        reaper.start()
    try:
        wait_until(lambda: broker.attempts == [("w", "t", 1)])
        wait_until(lambda: worker_now(product, "w").state is WorkerState.LOST)
    finally:
        for reaper in reapers:
            reaper.stop()
    assert broker.attempts == [("w", "t", 1)]
    assert now(product, "t").claim == Claim("t", 0, 0)


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def test_a_wait_between_attempts_that_expires_ends_the_task_whatever_is_retried(product: Product, watch: Watch) -> None:
    registered(product)
    lifecycle = {"queue_timeout": "5s", "retry": {"max_attempts": 3, "on": ["queue_expired", "worker_lost"]}}
    running(product, lifecycle=lifecycle)
    submitted(product, "other", lifecycle={"queue_timeout": "5s"}, vm={"cpus": 8})
    fleet.stop(product, "w", 0)
    fleet.remove(product, "w", force=True)
    assert now(product, "t").state is State.PENDING
    aged(product, "t", 60)
    aged(product, "other", 60)
    watch.pass_time(2)
    for task_id in ("t", "other"):
        task = now(product, task_id)
        assert task.outcome is not None, task_id
        assert (task.state, task.outcome.reason) == (State.FAILED, Reason.QUEUE_EXPIRED)


def test_a_duty_that_fails_does_not_keep_the_others_from_being_done(
    product: Product, watch: Watch, broker: StrictBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a row that nobody thought of")

    monkeypatch.setattr("orchestrator.services.reap._lose_attempts", broken)
    registered(product)
    registered(product, "b", profiles=("agentic-dev",))
    registered(product, "c", profiles=("agentic-dev",))
    running(product)
    submitted(product, "late", lifecycle={"queue_timeout": "5s"}, vm={"cpus": 8})
    watch.pass_time(LEASE + STOP_AFTER + 2, "b", "c")
    aged(product, "late", 60)
    watch.pass_time(2, "b", "c")
    assert now(product, "late").state is State.FAILED


def test_a_message_of_a_clock_that_was_ahead_is_sent_again_too(
    product: Product, watch: Watch, broker: StrictBroker
) -> None:
    registered(product)
    submitted(product, "t")
    aged(product, "t", -3600)  # its sender's clock was an hour ahead
    watch.pass_time(1, "w")
    assert broker.attempts == [("w", "t", 1), ("w", "t", 1)]
