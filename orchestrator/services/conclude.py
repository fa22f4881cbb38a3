"""End an attempt: the task's last one ends the task, another is due after a retry."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from orchestrator import clock
from orchestrator.journal import StaleClaim
from orchestrator.manifest import Manifest
from orchestrator.models import Claim, Task
from orchestrator.outcomes import LOST_HINT, Outcome, Reason, failure
from orchestrator.product import Product
from orchestrator.services.place import Message, deliver, place, take_turn
from orchestrator.states import RAN, Event, State
from orchestrator.store import attempts as attempt_rows
from orchestrator.store import conversation, tasks, workers
from orchestrator.store.lifecycle import transition

log = logging.getLogger(__name__)

MAX_UNCOUNTED_LOSSES = 3
"""How often a task whose worker was lost before it ran is placed again without counting (design §2)."""


class CancelRequested(Exception):
    """A cancellation was stored before this ending: destroy the sandbox, then conclude as cancelled."""


def conclude(
    product: Product, claim: Claim, outcome: Outcome, *, preserve_hint: str | None = None, uncollected: bool = False
) -> State:
    """End the attempt with `outcome`; return the task's new state.

    With `preserve_hint` (how to look inside) a failure that no retry follows becomes `failed_preserved`.
    `uncollected`: the worker still holds what the attempt left, and goes on trying to store it.

    Call it again after `StoreUnavailable`: what did reach the store the first time is answered, not done twice.
    Raises `StaleClaim`, and `CancelRequested` (nothing written) when a cancellation came first: a 202 was
    given for it, so the task must end `cancelled`, and only once its sandbox is gone.
    """
    at = clock.now()
    with product.database.write() as tx:
        take_turn(tx)
        task = tasks.get(tx, claim.task_id)
        if task is None or task.claim != claim:
            raise StaleClaim(claim)
        if task.is_terminal:
            return task.state
        if task.cancellation and outcome.reason is not Reason.CANCELLED:
            raise CancelRequested
        state = end(
            tx,
            task,
            outcome,
            at,
            preserve_hint=preserve_hint,
            preserve_max_seconds=product.settings.preserve_max_seconds,
            uncollected=uncollected,
        )
        messages = place(tx, at)
    deliver(product.broker, messages)
    log.info(
        "attempt ended",
        extra={"task": task.id, "attempt": claim.attempt, "state": state, "reason": outcome.reason},
    )
    return state


def end(
    tx: sa.Connection,
    task: Task,
    outcome: Outcome,
    at: datetime,
    *,
    preserve_hint: str | None = None,
    preserve_max_seconds: int = 0,
    uncollected: bool = False,
    taken: bool = False,
) -> State:
    """Write the ending of a task's present attempt inside a transaction that took its turn.

    `preserve_max_seconds` is the operator's limit for how long a sandbox is preserved; 0: none.
    `taken`: another one than its worker ends it, so the fence rises and refuses what that worker still writes.
    """
    manifest = Manifest.from_definition(task.definition)
    lifecycle = manifest.lifecycle
    if uncollected:
        attempt_rows.mark_uncollected(tx, task.claim)
    retry = _may_retry(task, outcome, manifest)
    preserved = bool(preserve_hint) and not retry
    if preserved:
        outcome = replace(outcome, hint=preserve_hint)
    if retry:
        not_before = at + timedelta(seconds=lifecycle.retry.backoff_seconds)
        text = f"attempt {task.attempt} ended: {outcome.message}; another one follows"
        _wait_again(tx, task, outcome, at, text, not_before=not_before)
        return State.PENDING
    columns: dict[str, Any] = {"outcome": outcome.to_dict(), "exit_code": outcome.exit_code}
    if preserved:
        wanted = lifecycle.preserve_for_seconds
        columns["preserve_until"] = at + timedelta(seconds=min(wanted, preserve_max_seconds or wanted))
    event = _event(outcome, preserved=preserved)
    next_claim = _fenced(task) if taken else None
    failed = None if event in (Event.SUCCEED, Event.CANCEL) else outcome
    state = transition(
        tx,
        task.claim,
        task.state,
        event,
        at=at,
        message=outcome.message,
        next_claim=next_claim,
        failed=failed,
        **columns,
    )
    if task.attempt:
        attempt_rows.finish(tx, task.claim, state, outcome, at, preserved=preserved)
        conversation.abandon(tx, task.claim, at)
    return state


def _wait_again(
    tx: sa.Connection,
    task: Task,
    outcome: Outcome,
    at: datetime,
    message: str,
    *,
    not_before: datetime | None = None,
    **columns: Any,
) -> None:
    """End the attempt and return the task to the queue. The fence rises: what the attempt's worker says is over."""
    queue = Manifest.from_definition(task.definition).lifecycle.queue_timeout_seconds
    transition(
        tx,
        task.claim,
        task.state,
        Event.RETRY,
        at=at,
        message=message,
        next_claim=_fenced(task),
        failed=outcome,
        worker=None,
        sent_at=None,
        not_before=not_before,
        queue_deadline=(not_before or at) + timedelta(seconds=queue) if queue else None,
        **columns,
    )
    attempt_rows.finish(tx, task.claim, State.FAILED, outcome, at, preserved=False)
    conversation.abandon(tx, task.claim, at)


def _fenced(task: Task) -> Claim:
    return replace(task.claim, fence=task.fence + 1)


def give_back(product: Product, claim: Claim, worker: str, why: str, *, trouble: str | None = None) -> None:
    """A worker gives back an attempt that it had not begun to run.

    Raises `StaleClaim`, and `CancelRequested` (nothing written) when the task must end `cancelled` instead.
    `trouble`, if any, is what keeps this worker from running tasks: placement leaves it out until its next
    heartbeat says otherwise.
    """
    at = clock.now()
    with product.database.write() as tx:
        take_turn(tx)
        task = tasks.get(tx, claim.task_id)
        if task is None or task.claim != claim or task.is_terminal:
            raise StaleClaim(claim)
        if task.cancellation:
            raise CancelRequested
        if trouble:
            workers.set_trouble(tx, worker, trouble)
        _place_again(tx, task, failure(Reason.WORKER_LOST, why), at)
        messages = place(tx, at)
    deliver(product.broker, messages)


def lose(tx: sa.Connection, task: Task, worker: str, at: datetime) -> list[Message]:
    """End the attempt of a lost worker: what had not begun to run is placed again without counting."""
    ran = task.state in RAN
    message = f"worker {worker} was lost while the task was {task.state}"
    if ran:
        message += "; if its host still runs, the sandbox may run too until the host's return destroys it"
    outcome = failure(Reason.WORKER_LOST, message, hint=LOST_HINT)
    if ran:
        end(tx, task, outcome, at, taken=True, uncollected=True)
    else:
        _place_again(tx, task, outcome, at)
    return place(tx, at)


def _place_again(tx: sa.Connection, task: Task, outcome: Outcome, at: datetime) -> None:
    """End an attempt that had not begun to run, without counting it; too many such ends count (design §2).

    Its state may say `running` already, because it does so before the gate is opened.
    """
    if task.cancellation or task.uncounted_losses >= MAX_UNCOUNTED_LOSSES:
        end(tx, task, outcome, at, taken=True)
    else:
        _wait_again(
            tx,
            task,
            outcome,
            at,
            f"{outcome.message}; it is placed again",
            counted_attempts=task.counted_attempts - 1,
            uncounted_losses=task.uncounted_losses + 1,
        )
    attempt_rows.never_ran(tx, task.claim)


def _may_retry(task: Task, outcome: Outcome, manifest: Manifest) -> bool:
    rule = manifest.lifecycle.retry
    return (
        task.attempt > 0
        and task.state is not State.PENDING  # a wait that ends is no attempt's end
        and not task.cancellation
        and outcome.reason.value in rule.on
        and task.counted_attempts < rule.max_attempts
    )


def _event(outcome: Outcome, *, preserved: bool) -> Event:
    if outcome.reason is Reason.EXIT_ZERO:
        return Event.SUCCEED
    if outcome.reason is Reason.CANCELLED:
        return Event.CANCEL
    return Event.PRESERVE if preserved else Event.FAIL
