"""What nobody else will notice: the duties of the reaper, one function each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from orchestrator import clock
from orchestrator.journal import StaleClaim
from orchestrator.leases import Absence
from orchestrator.models import Worker, WorkerState
from orchestrator.outcomes import Reason, failure
from orchestrator.services.conclude import end, lose
from orchestrator.services.place import Message, place, take_turn
from orchestrator.states import IllegalTransition, State
from orchestrator.store import attempts as attempt_rows
from orchestrator.store import queue, tasks, workers

log = logging.getLogger(__name__)

RESEND_AFTER = timedelta(seconds=5)
"""A placed task that was not claimed for so long is rung for again; a claim takes milliseconds."""


@dataclass(frozen=True, slots=True)
class Absences:
    """The workers that say nothing, and how long (seconds) their attempts wait for them.

    `takeover_seconds`: of a lost worker. `stopping_seconds`: what a keeper may need beyond the time a stopped
    worker's attempts wait.
    """

    seen: Mapping[str, Absence]
    takeover_seconds: float
    stopping_seconds: float

    def of(self, worker: Worker) -> float | None:
        """How long the worker has been absent; None when it is there, or was heard of since we looked."""
        absence = self.seen.get(worker.name)
        return absence.seconds if absence and absence.heartbeat == worker.heartbeat else None

    def is_lost(self, worker: Worker) -> bool:
        return worker.state is WorkerState.ACTIVE and self.of(worker) is not None

    def is_over(self, worker: Worker) -> bool:
        """Tell whether nobody has to wait any longer for what the worker had: its keeper has stopped it by now."""
        seconds = self.of(worker)
        if seconds is None or worker.state is WorkerState.ACTIVE:
            return False
        if worker.state is WorkerState.STOPPED:
            return seconds > worker.adopt_seconds + self.stopping_seconds
        return seconds > self.takeover_seconds


def lose_silent_workers(tx: sa.Connection, absent: Absences) -> list[Message]:
    """Mark silent workers lost; end their attempts only when their keeper has stopped them."""
    take_turn(tx)
    messages: list[Message] = []
    for worker in workers.all_of(tx):
        if absent.is_lost(worker):
            workers.set_lost(tx, worker.name, _absence_told(worker))
            tasks.say_of_active(tx, worker.name, _absence_told(worker))
            queue.unassign(tx, worker.name)
            log.warning("worker lost", extra={"worker": worker.name, "silent_seconds": absent.of(worker)})
            messages += place(tx, clock.now())
        elif absent.is_over(worker):
            messages += _lose_attempts(tx, worker.name, clock.now())
    return messages


def _absence_told(worker: Worker) -> str:
    return (
        f"worker {worker.name} says nothing since {clock.text(worker.heartbeat_at)}: its keeper stops what it runs; "
        "it goes on if it returns before, else this attempt is given up"
    )


def _lose_attempts(tx: sa.Connection, worker: str, at: datetime) -> list[Message]:
    messages: list[Message] = []
    for seen, _ in attempt_rows.live_on(tx, worker):
        task = tasks.get(tx, seen.id, for_update=True)
        if task and task.claim == seen.claim:  # it may have gone a step further since it was seen
            messages += lose(tx, task, worker, at)
    return messages


def send_again(tx: sa.Connection, at: datetime) -> list[Message]:
    """Messages for tasks that were placed and not claimed: the first one, or its worker's queue, was lost."""
    return queue.unsent(tx, at - RESEND_AFTER, at + RESEND_AFTER, clock.now())


def expire_queue(tx: sa.Connection, at: datetime) -> list[Message]:
    """End what waited longer than its `queue_timeout`; what it held on a worker is free then."""
    take_turn(tx)
    for seen in queue.overdue_in_queue(tx, at):
        task = tasks.get(tx, seen.id, for_update=True)
        if task is None or task.state is not State.PENDING:  # claimed since it was seen
            continue
        why = task.state_message or "no worker had room"
        hint = "raise lifecycle.queue_timeout or priority, or add workers"
        outcome = failure(Reason.QUEUE_EXPIRED, f"not started within its queue_timeout: {why}", hint=hint)
        try:
            with tx.begin_nested():
                end(tx, task, outcome, clock.now())
        except (IllegalTransition, StaleClaim):  # one bad row must not keep the others waiting
            log.exception("a wait could not be ended", extra={"task": task.id})
    return place(tx, clock.now())


def place_after_backoff(tx: sa.Connection, at: datetime) -> list[Message]:
    """Place retries whose backoff is over."""
    take_turn(tx)
    queue.end_backoff(tx, at)
    return place(tx, clock.now())


def place_again(tx: sa.Connection, _at: datetime) -> list[Message]:
    """A round that no event asked for."""
    take_turn(tx)
    return place(tx, clock.now())


Duty = Callable[[sa.Connection, datetime], list[Message]]
"""Called in a write transaction with the instant that deadlines are compared with (`clock.SteadyClock`)."""


def due_duties(tx: sa.Connection, at: datetime, fleet: Sequence[Worker], absent: Absences) -> list[Duty]:
    """Look, without a write, which duties have anything to do now."""
    duties: list[Duty] = []
    if _workers_need_care(tx, fleet, absent):
        duties.append(lambda tx, _: lose_silent_workers(tx, absent))
    if queue.overdue_in_queue(tx, at):
        duties.append(expire_queue)
    # By whichever clock says so first: to ring, or to place, too early does no harm, and too late does.
    early = max(at, clock.now())
    if queue.has_unsent(tx, early - RESEND_AFTER, early + RESEND_AFTER):
        duties.append(lambda tx, _: send_again(tx, early))
    if queue.next_backoff_over(tx, early):
        duties.append(lambda tx, _: place_after_backoff(tx, early))
    return duties


def _workers_need_care(tx: sa.Connection, fleet: Sequence[Worker], absent: Absences) -> bool:
    return any(
        absent.is_lost(worker) or (absent.is_over(worker) and attempt_rows.live_on(tx, worker.name)) for worker in fleet
    )
