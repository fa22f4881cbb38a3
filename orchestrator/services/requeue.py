"""Place again what was placed and not claimed: for a worker or a broker that an operator does not trust."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator import clock
from orchestrator.models import Task
from orchestrator.product import Product
from orchestrator.services import by_hand
from orchestrator.services.cancel import TaskNotFound
from orchestrator.services.place import place, take_turn
from orchestrator.store import queue, tasks

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Requeued:
    """`taken_back`: the ids that no worker had begun; `now`: what became of these, or of all that were named."""

    taken_back: list[str]
    now: list[Task]


def requeue(product: Product, task_ids: Sequence[str] | None) -> Requeued:
    """Take back, place again, ring again; `task_ids` None stands for all. A task that is begun is left alone.

    Raises `TaskNotFound` (nothing is changed then), `StoreUnavailable`, and `BrokerUnavailable` when they are placed
    and the reaper will ring.
    """
    at = clock.now()
    with product.database.write() as tx:
        take_turn(tx)
        for task_id in task_ids or ():
            if tasks.get(tx, task_id) is None:
                raise TaskNotFound(task_id)
        taken_back = queue.take_back(tx, task_ids)
        by_hand.note(tx, "task.requeue", taken_back, at)
        messages = []
        while placed := place(tx, at):  # a round looks at a part of the queue
            messages += placed
        found = [tasks.get(tx, task_id) for task_id in (taken_back if task_ids is None else dict.fromkeys(task_ids))]
    for worker, task_id, attempt in messages:
        product.broker.send_attempt(worker, task_id, attempt)
    log.info("requeued", extra={"tasks": len(taken_back), "placed": len(messages)})
    return Requeued(taken_back, [task for task in found if task is not None])
