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
from orchestrator.outcomes import Outcome, Reason, failure
from orchestrator.product import Product
from orchestrator.services.place import Message, deliver, place
from orchestrator.states import Event, State
from orchestrator.store import tasks, workers
from orchestrator.store.lifecycle import transition

log = logging.getLogger(__name__)

MAX_UNCOUNTED_LOSSES = 3
"""How often a task whose worker was lost before it ran is placed again without counting (design §2)."""


class CancelRequested(Exception):
    """A cancellation was stored before this ending: destroy the sandbox, then conclude as cancelled."""


def conclude(product: Product, claim: Claim, outcome: Outcome, *, preserve_hint: str | None = None) -> State:
    """End the attempt with `outcome`; return the task's new state.

    With `preserve_hint` (how to look inside) a failure that no retry follows becomes `failed_preserved`.

    Raises `StaleClaim`, and `CancelRequested` (nothing written) when a cancellation came first: a 202 was
    given for it, so the task must end `cancelled`, and only once its sandbox is gone.
    """
    at = clock.now()
    with product.database.write() as tx:
        task = tasks.get(tx, claim.task_id)
        if task is None or task.claim != claim:
            raise StaleClaim(claim)
        if task.cancellation and outcome.reason is not Reason.CANCELLED:
            raise CancelRequested
        state = end(tx, task, outcome, at, preserve_hint=preserve_hint)
        messages = place(tx, at)
    deliver(product.broker, messages)
    log.info(
        "attempt ended",
        extra={"task": task.id, "attempt": claim.attempt, "state": state, "reason": outcome.reason},
    )
    return state


def end(tx: sa.Connection, task: Task, outcome: Outcome, at: datetime, *, preserve_hint: str | None = None) -> State:
    """Write the ending of a task's present attempt inside a transaction."""
    manifest = Manifest.from_definition(task.definition)
    lifecycle = manifest.lifecycle
    retry = _may_retry(task, outcome, manifest)
    preserved = bool(preserve_hint) and not retry
    if preserved:
        outcome = replace(outcome, hint=preserve_hint)
    columns: dict[str, Any]
    if retry:
        columns = {
            "worker": None,
            "sent_at": None,
            "not_before": at + timedelta(seconds=lifecycle.retry.backoff_seconds),
        }
        event, message = Event.RETRY, f"attempt {task.attempt} ended: {outcome.message}; another one follows"
    else:
        event = _event(outcome, preserved=preserved)
        message = outcome.message
        columns = {"outcome": outcome.to_dict(), "exit_code": outcome.exit_code}
        if preserved:
            columns["preserve_until"] = at + timedelta(seconds=lifecycle.preserve_for_seconds)
    state = transition(tx, task.claim, task.state, event, at=at, message=message, **columns)
    if task.attempt:
        ended_as = State.FAILED if retry else state
        tasks.finish_attempt(tx, task.claim, ended_as, outcome, at, preserved=preserved)
    return state


def give_back(product: Product, claim: Claim, worker: str, why: str, *, trouble: str | None = None) -> None:
    """A worker gives back an attempt that it had not begun to run. Raises `StaleClaim`.

    `trouble`, if any, is what keeps this worker from running tasks: placement leaves it out until its next
    heartbeat says otherwise.
    """
    at = clock.now()
    with product.database.write() as tx:
        task = tasks.get(tx, claim.task_id)
        if task is None or task.claim != claim:
            raise StaleClaim(claim)
        if trouble:
            workers.set_trouble(tx, worker, trouble)
        _place_again(tx, task, failure(Reason.WORKER_LOST, why), at)
        messages = place(tx, at)
    deliver(product.broker, messages)


def lose(tx: sa.Connection, task: Task, worker: str, at: datetime) -> list[Message]:
    """End the attempt of a lost worker: what had not begun to run is placed again without counting."""
    ran = task.state in (State.RUNNING, State.COMPLETING)
    message = f"worker {worker} was lost while the task was {task.state}"
    hint = "see `sandbox workers list`; lifecycle.retry places such a task again by itself"
    if ran:
        message += "; if its host still runs, the sandbox may run too until the host's return destroys it"
    outcome = failure(Reason.WORKER_LOST, message, hint=hint)
    if ran:
        end(tx, task, outcome, at)
    else:
        _place_again(tx, task, outcome, at)
    return place(tx, at)


def _place_again(tx: sa.Connection, task: Task, outcome: Outcome, at: datetime) -> None:
    """End an attempt that had not begun to run, without counting it; too many such ends count (design §2)."""
    if task.cancellation or task.uncounted_losses >= MAX_UNCOUNTED_LOSSES:
        end(tx, task, outcome, at)
        return
    columns: dict[str, Any] = {
        "worker": None,
        "sent_at": None,
        "counted_attempts": task.counted_attempts - 1,
        "uncounted_losses": task.uncounted_losses + 1,
    }
    text = f"{outcome.message}; it is placed again"
    transition(tx, task.claim, task.state, Event.RETRY, at=at, message=text, **columns)
    tasks.finish_attempt(tx, task.claim, State.FAILED, outcome, at, preserved=False)


def _may_retry(task: Task, outcome: Outcome, manifest: Manifest) -> bool:
    rule = manifest.lifecycle.retry
    return (
        task.attempt > 0
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
