"""Accept a task: stored first, told to a worker after the commit."""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from orchestrator import clock, fault_points, placement
from orchestrator.access import ANYBODY, Caller, Scope
from orchestrator.manifest import InvalidManifest, Manifest, ManifestError
from orchestrator.models import Resources, Resumption, Task
from orchestrator.product import Product
from orchestrator.services import webhooks as webhook_services
from orchestrator.services.place import deliver, place_one, take_turn
from orchestrator.store import idempotency, tasks, webhooks, workers
from orchestrator.store.tasks import DuplicateTask, TaskIdTaken

log = logging.getLogger(__name__)


class IdempotencyKeyReused(Exception):
    """The key was used for another request; use a new key for a new task."""


class InsufficientResources(Exception):
    """No registered worker could ever hold the task (507)."""

    def __init__(self, why: str, asked: Resources, best: Resources) -> None:
        super().__init__(
            f"no registered worker could ever hold this task ({why}); ask for less, or register a worker that offers it"
        )
        self.asked = asked
        self.best = best


@dataclass(frozen=True, slots=True)
class GoingOn:
    """That a task is to go on from the task `task_id`. `find` looks for what it left, in the transaction that stores
    the new task: nobody else can have its id by then."""

    task_id: str
    find: Callable[[sa.Connection], Resumption]


@dataclass(frozen=True, slots=True)
class _Request:
    """What an Idempotency-Key stands for: a manifest, and the tasks that were named beside it."""

    manifest: Manifest
    rerun_of: str | None
    resumed_from: str | None

    @property
    def fingerprint(self) -> str:
        return self._fingerprint_of(self.manifest.definition)

    def was_made_by_the_version_before(self, task: Task, fingerprint: str) -> bool:
        """It stored the same manifest, without the fields that were added since."""
        lacks = task.definition != self.manifest.definition
        is_same = lacks and Manifest.from_definition(task.definition) == self.manifest
        return is_same and fingerprint == self._fingerprint_of(task.definition)

    def _fingerprint_of(self, definition: dict[str, Any]) -> str:
        named = {"rerun_of": self.rerun_of, "resumed_from": self.resumed_from}
        body = {**definition, **{what: task_id for what, task_id in named.items() if task_id}}
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def submit(
    product: Product,
    manifest: Manifest,
    *,
    idempotency_key: str | None = None,
    rerun_of: str | None = None,
    going_on: GoingOn | None = None,
    by: Caller = ANYBODY,
) -> Task:
    """Store a task of `by`'s owner as pending, place what can be placed, and return it as stored.

    Raises `DuplicateTask`, `TaskIdTaken` (by a task that `by` may not see), `IdempotencyKeyReused`,
    `InsufficientResources`, `InvalidManifest` (unknown parent), `StoreUnavailable`, and what `going_on.find` does;
    nothing is stored then.
    """
    task_id = manifest.id or str(uuid.uuid4())
    request = _Request(manifest, rerun_of, going_on.task_id if going_on else None)
    if manifest.notify:
        webhook_services.prepare(product.database)
    with product.database.write() as tx:
        take_turn(tx)
        at = clock.now()
        if idempotency_key and (earlier := _earlier(tx, by, idempotency_key, request)):
            return earlier
        resumed = going_on.find(tx) if going_on else None
        _check_parent(tx, by, manifest)
        _check_capacity(tx, manifest)
        message = "accepted; waits for a worker"
        if manifest.notify:
            webhooks.begin_telling(tx)
        try:
            task = tasks.insert(
                tx, task_id, manifest, at=at, message=message, rerun_of=rerun_of, owner=by.owner, resumed=resumed
            )
        except DuplicateTask:
            if tasks.exists(tx, task_id, owner=by.reach(Scope.TASK_READ)):
                raise
            raise TaskIdTaken(task_id) from None
        webhook_services.insert_own(tx, task_id, manifest, by=by, at=at)
        if idempotency_key:
            idempotency.remember(tx, by.owner, idempotency_key, fingerprint=request.fingerprint, task_id=task_id, at=at)
        messages = place_one(tx, task_id, at)
    fault_points.reach("task_stored")
    deliver(product.broker, messages)
    log.info("task accepted", extra={"task": task_id})
    return task


def _earlier(tx: sa.Connection, by: Caller, key: str, request: _Request) -> Task | None:
    known = idempotency.find(tx, by.owner, key)
    if known is None:
        return None
    fingerprint, task_id = known
    task = tasks.get(tx, task_id)
    if fingerprint != request.fingerprint and not (task and request.was_made_by_the_version_before(task, fingerprint)):
        raise IdempotencyKeyReused(
            f"Idempotency-Key {key!r} was used for another request, which made task {task_id}; use a new key"
        )
    return task


def _check_parent(tx: sa.Connection, by: Caller, manifest: Manifest) -> None:
    parent = manifest.parent_id
    if parent is not None and not tasks.exists(tx, parent, owner=by.reach(Scope.TASK_READ)):
        message = f"parent_id {parent!r} is no existing task; submit the parent first, or leave parent_id out"
        raise InvalidManifest([ManifestError("parent_id", "/parent_id", None, None, "reference", message)])


def _check_capacity(tx: sa.Connection, manifest: Manifest) -> None:
    demand = placement.demand_of(manifest)
    why = placement.why_unplaceable(demand, workers.registered(tx))
    if why is not None:
        best = max((host.capacity for host in workers.registered(tx)), key=lambda one: (one.cpus, one.memory_bytes))
        raise InsufficientResources(why, demand.requested, best)
