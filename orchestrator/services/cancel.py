"""Cancel: store the intention, tell the worker; the fact is the worker's to report (contract §4)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from orchestrator import clock
from orchestrator.broker.messages import BrokerUnavailable
from orchestrator.models import Cancellation, Claim, Task
from orchestrator.outcomes import Outcome, Reason
from orchestrator.product import Product
from orchestrator.services.conclude import conclude, end
from orchestrator.services.place import deliver, place, take_turn
from orchestrator.states import State
from orchestrator.store import tasks

log = logging.getLogger(__name__)


class TaskNotFound(Exception):
    """No task has this id."""

    exit_code = 3

    def __init__(self, task_id: str) -> None:
        super().__init__(f"no task has the id {task_id!r}; `sandbox task list` shows those there are")
        self.task_id = task_id


class AlreadyTerminal(Exception):
    """The task has ended; there is nothing to cancel, and nobody to send anything to."""

    def __init__(self, task: Task, advice: str = "") -> None:
        super().__init__(f"task {task.id} has ended already: it is {task.state}{advice}")
        self.task = task


@dataclass(frozen=True, slots=True)
class Wish:
    """Who wants a task cancelled, why, and how hard."""

    requested_by: str
    reason: str | None = None
    force: bool = False


def cancel(product: Product, task_id: str, wish: Wish) -> Task:
    """Store the wish; a pending task is cancelled at once, a worker's task when the worker confirms it.

    Returns the task as it is now. A second call is harmless and may add force. Raises `TaskNotFound`,
    `AlreadyTerminal`, `StoreUnavailable`.
    """
    at = clock.now()
    with product.database.write() as tx:
        take_turn(tx)
        task = tasks.get(tx, task_id, for_update=True)
        if task is None:
            raise TaskNotFound(task_id)
        if task.is_terminal:
            raise AlreadyTerminal(task)
        first = Cancellation(at, wish.requested_by, wish.reason, wish.force, task.state)
        earlier = task.cancellation
        intention = replace(earlier, force=earlier.force or wish.force) if earlier else first
        tasks.store_cancellation(tx, task, intention)
        task = replace(task, cancellation=intention)
        messages = []
        if task.state is State.PENDING:
            end(tx, task, confirmed(task), at)
            messages = place(tx, at)
        task = tasks.get(tx, task_id) or task
    deliver(product.broker, messages)
    if not task.is_terminal and task.worker:
        _tell(product, task)
    log.info("cancellation stored", extra={"task": task_id, "state": task.state, "by": wish.requested_by})
    return task


def confirmed(task: Task, exit_code: int | None = None) -> Outcome:
    """The outcome of a cancellation that became a fact."""
    wish = task.cancellation
    why = f": {wish.reason}" if wish and wish.reason else ""
    by = wish.requested_by if wish else "nobody"
    return Outcome(Reason.CANCELLED, f"cancelled by {by}{why}", exit_code=exit_code)


def conclude_cancelled(
    product: Product, claim: Claim, exit_code: int | None = None, *, uncollected: bool = False
) -> None:
    """End an attempt as cancelled, once its sandbox is gone. `uncollected`: see `conclude`. Raises `StaleClaim`."""
    with product.database.read() as tx:
        task = tasks.get(tx, claim.task_id)
    if task is None:
        raise TaskNotFound(claim.task_id)
    conclude(product, claim, confirmed(task, exit_code), uncollected=uncollected)


def _tell(product: Product, task: Task) -> None:
    try:
        product.broker.send_cancel(task.worker or "", task.id, task.attempt)
    except BrokerUnavailable as error:
        # The worker looks for wishes at each heartbeat too.
        log.warning("broker unavailable, the worker will see it later", extra={"task": task.id, "error": str(error)})
