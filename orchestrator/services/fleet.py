"""A worker registers, keeps its lease, says goodbye."""

from __future__ import annotations

from datetime import timedelta

from orchestrator import clock
from orchestrator.models import Worker, WorkerState
from orchestrator.product import Product
from orchestrator.services.place import deliver, place, take_turn
from orchestrator.store import queue, workers


def register(product: Product, worker: Worker) -> None:
    """Store what the worker can do and place what waited for it. Raises `StoreUnavailable`."""
    with product.database.write() as tx:
        take_turn(tx)
        workers.register(tx, worker)
        queue.unassign(tx, worker.name)
        messages = place(tx, clock.now())
    deliver(product.broker, messages)


def heartbeat(product: Product, name: str, trouble: str | None) -> None:
    """Renew the lease. Raises `StoreUnavailable`, `UnknownWorker`."""
    at = clock.now()
    with product.database.write() as tx:
        take_turn(tx)
        changed = workers.beat(tx, name, at, trouble)
        if changed and trouble:
            queue.unassign(tx, name)
        messages = place(tx, at) if changed else []
    deliver(product.broker, messages)


def stop(product: Product, name: str, adopt_seconds: float) -> None:
    """Say goodbye after TERM: live attempts wait `adopt_seconds` for this worker, the rest goes elsewhere."""
    at = clock.now()
    with product.database.write() as tx:
        take_turn(tx)
        workers.set_state(tx, name, WorkerState.STOPPED, adopt_until=at + timedelta(seconds=adopt_seconds))
        queue.unassign(tx, name)
        messages = place(tx, at)
    deliver(product.broker, messages)
