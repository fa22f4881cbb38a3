"""A worker takes an attempt, and says how far it is: each step one compare-and-set."""

from __future__ import annotations

import logging
from typing import Any

from orchestrator import clock
from orchestrator.journal import StaleClaim
from orchestrator.models import Cancellation, Claim, Task
from orchestrator.product import Product
from orchestrator.states import Event, State, after
from orchestrator.store import attempts as attempt_rows
from orchestrator.store import conversation, progress, tasks
from orchestrator.store.lifecycle import transition

log = logging.getLogger(__name__)


def claim(product: Product, worker: str, task_id: str, attempt: int) -> Task | None:
    """Take the attempt for `worker`; return the task as claimed, or None when it is not this worker's to take.

    The attempt counter and the fence rise here, before any work: a task that kills its worker is counted.
    """
    at = clock.now()
    with product.database.write() as tx:
        task = tasks.get(tx, task_id, for_update=True)
        if task is None or task.state is not State.PENDING or task.worker != worker or task.attempt + 1 != attempt:
            return None
        mine = Claim(task_id, attempt, task.fence + 1)
        transition(
            tx,
            task.claim,
            State.PENDING,
            Event.CLAIM,
            at=at,
            message=f"worker {worker} makes the workspace",
            next_claim=mine,
            counted_attempts=task.counted_attempts + 1,
            **progress.FRESH,
        )
        attempt_rows.insert(tx, mine, worker, at)
        claimed = tasks.get(tx, task_id)
    log.info("attempt claimed", extra={"task": task_id, "attempt": attempt, "worker": worker})
    return claimed


def advance(
    product: Product, claim: Claim, expected: State, event: Event, message: str, **attempt_facts: Any
) -> Cancellation | None:
    """Record the next step of an attempt with what is known of it now; return the wish to cancel it, if any.

    Call it again after `StoreUnavailable`: a step that did reach the store is not taken twice. Raises `StaleClaim`.
    """
    at = clock.now()
    with product.database.write() as tx:
        task = tasks.get(tx, claim.task_id, for_update=True)
        if task and task.claim == claim and task.state is after(expected, event):
            return task.cancellation
        columns = {"applied": attempt_facts["applied"]} if "applied" in attempt_facts else {}
        transition(tx, claim, expected, event, at=at, message=message, **columns)
        if event is Event.GATE_OPENED:
            attempt_facts["running_at"] = at
        if event is Event.ENDED:
            conversation.abandon(tx, claim, at)
        if attempt_facts:
            attempt_rows.note(tx, claim, **attempt_facts)
        return task.cancellation if task else None


def confirm(product: Product, claim: Claim) -> None:
    """Return when the attempt is still its worker's; whoever is about to take it over is waited for.

    Raises `StaleClaim`, `StoreUnavailable`.
    """
    with product.database.write() as tx:
        task = tasks.get(tx, claim.task_id, for_update=True)
        if task is None or task.claim != claim:
            raise StaleClaim(claim)


def say(product: Product, claim: Claim, message: str) -> None:
    """Change what the task says of its present state. Raises `StaleClaim`."""
    with product.database.write() as tx:
        tasks.say_of(tx, claim, message)


def note(product: Product, claim: Claim, **facts: Any) -> None:
    """Store facts about a live attempt without a change of state. Raises `StaleClaim`."""
    with product.database.write() as tx:
        attempt_rows.note(tx, claim, **facts)
