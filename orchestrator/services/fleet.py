"""The fleet: a worker registers, keeps its lease, says goodbye; an operator drains, resumes, removes it."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

import sqlalchemy as sa

from orchestrator import clock
from orchestrator.models import Worker, WorkerState
from orchestrator.product import Product
from orchestrator.services.conclude import lose
from orchestrator.services.place import deliver, place, take_turn
from orchestrator.store import attempts as attempt_rows
from orchestrator.store import queue, tasks, workers
from orchestrator.store.workers import UnknownWorker

log = logging.getLogger(__name__)


class WorkerNameTaken(Exception):
    """The name belongs to a worker on another machine: two of one name would adopt each other's attempts."""

    exit_code = 2

    def __init__(self, name: str) -> None:
        super().__init__(
            f"a worker named {name} is registered from another host or data directory, and may still have tasks there; "
            f"give this one another --name, or, when that host is gone for good, first run "
            f"`sandbox workers remove {name} --force`"
        )


class WorkerInUse(Exception):
    """The worker is active or still owns attempts; it cannot be removed now."""


def register(product: Product, worker: Worker) -> None:
    """Store what the worker can do and place what waited for it. Raises `StoreUnavailable`, `WorkerNameTaken`."""
    with product.database.write() as tx:
        take_turn(tx)
        known = workers.get(tx, worker.name)
        if known and _is_elsewhere(known, worker.host_id) and _may_be_alive(tx, known):
            raise WorkerNameTaken(worker.name)
        workers.register(tx, worker)
        queue.unassign(tx, worker.name)
        messages = place(tx, clock.now())
    deliver(product.broker, messages)


def _is_elsewhere(known: Worker, host_id: str | None) -> bool:
    return known.host_id is not None and known.host_id != host_id


def _may_be_alive(tx: sa.Connection, known: Worker) -> bool:
    return known.state is WorkerState.ACTIVE or _what_it_has(tx, known.name) is not None


def _what_it_has(tx: sa.Connection, name: str) -> str | None:
    """What would be lost with the worker's host, in words; None for nothing."""
    live = [task.id for task, _ in attempt_rows.live_on(tx, name)]
    left = [task.id for task, _ in attempt_rows.uncollected_on(tx, name)]
    kept = [claim.task_id for claim in attempt_rows.preserved_on(tx, name)]
    kinds = {"attempts": live, "logs or artifacts that are not stored yet": left, "preserved sandboxes": kept}
    named = [f"{len(ids)} {kind} ({', '.join(ids[:5])})" for kind, ids in kinds.items() if ids]
    return " and ".join(named) or None


def heartbeat(product: Product, name: str, trouble: str | None, *, host_id: str | None = None) -> Worker:
    """Renew the lease; return what the store says of the worker. Raises `StoreUnavailable`, `UnknownWorker`,
    `WorkerNameTaken`."""
    at = clock.now()
    with product.database.write() as tx:  # most heartbeats change nothing that placement would wait for
        quiet = workers.beat_quietly(tx, name, at, trouble, host_id)
    if quiet is not None:
        return quiet
    with product.database.write() as tx:
        take_turn(tx)
        before = workers.get(tx, name)
        if before is None:
            raise UnknownWorker(name)
        if _is_elsewhere(before, host_id):
            raise WorkerNameTaken(name)
        changed = workers.beat(tx, before, at, trouble)
        if before.state is WorkerState.LOST:
            tasks.say_of_active(tx, name, f"worker {name} is back, and goes on with it")
        if changed and trouble:
            queue.unassign(tx, name)
        messages = place(tx, at) if changed else []
    deliver(product.broker, messages)
    return before


def stop(product: Product, name: str, adopt_seconds: float) -> None:
    """Say goodbye after TERM: live attempts wait `adopt_seconds` for this worker, the rest goes elsewhere."""
    at = clock.now()
    with product.database.write() as tx:
        take_turn(tx)
        workers.set_stopped(tx, name, at, at + timedelta(seconds=adopt_seconds))
        queue.unassign(tx, name)
        messages = place(tx, at)
    deliver(product.broker, messages)


def drain(product: Product, name: str, *, deadline_seconds: float | None = None) -> Worker:
    """Let the worker finish what it has and take nothing new, across restarts, until `resume`.

    What still runs after `deadline_seconds` (None: no deadline) its worker ends; it follows `lifecycle.retry`.
    A second call sets another deadline. Raises `UnknownWorker`, `StoreUnavailable`.
    """
    at = clock.now()
    until = at + timedelta(seconds=deadline_seconds) if deadline_seconds is not None else None
    return _set_drain(product, name, draining=True, until=until)


def resume(product: Product, name: str) -> Worker:
    """End a drain: the worker takes tasks again. Harmless without one. Raises `UnknownWorker`, `StoreUnavailable`."""
    return _set_drain(product, name, draining=False, until=None)


def _set_drain(product: Product, name: str, *, draining: bool, until: datetime | None) -> Worker:
    at = clock.now()
    with product.database.write() as tx:
        take_turn(tx)
        workers.set_drain(tx, name, draining=draining, until=until)
        after = workers.get(tx, name)
        if after is None:
            raise UnknownWorker(name)
        if draining:
            queue.unassign(tx, name)
        messages = place(tx, at)
    deliver(product.broker, messages)
    log.info("worker drains" if draining else "worker resumes", extra={"worker": name})
    return after


def remove(product: Product, name: str, *, force: bool = False) -> None:
    """Forget a worker that does not run any more.

    With `force` the operator asserts that its host is gone for good: the attempts it owns end as lost now.
    Raises `UnknownWorker`, `WorkerInUse`, `StoreUnavailable`.
    """
    at = clock.now()
    with product.database.write() as tx:
        take_turn(tx)
        worker = workers.get(tx, name)
        if worker is None:
            raise UnknownWorker(name)
        if worker.state is WorkerState.ACTIVE:
            raise WorkerInUse(
                f"worker {name} is active: drain it (`sandbox workers drain {name} --wait`) and stop it, or wait until "
                "it is shown as lost; then remove it"
            )
        live = attempt_rows.live_on(tx, name)
        had = _what_it_has(tx, name)
        if had and not force:
            raise WorkerInUse(
                f"worker {name} still has {had}: start it again to bring them in, or, when its host is gone for good, "
                "remove it with --force: what it runs ends worker_lost, or is retried, and the rest is given up"
            )
        queue.unassign(tx, name)
        workers.remove(tx, name)
        messages = place(tx, at)
        for seen, _ in live:
            task = tasks.get(tx, seen.id, for_update=True)
            if task and task.claim == seen.claim:
                messages += lose(tx, task, name, at)
    deliver(product.broker, messages)
    log.info("worker removed", extra={"worker": name, "forced": force})
