"""Place pending tasks on workers, or keep the reason each one waits."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa
from prometheus_client import Histogram

from orchestrator import placement
from orchestrator.broker.messages import Broker, BrokerUnavailable
from orchestrator.manifest import Manifest
from orchestrator.models import Resources
from orchestrator.placement import Wanted
from orchestrator.store import queue, workers
from orchestrator.store.queue import Candidate

log = logging.getLogger(__name__)

ROUND = 256
"""Pending tasks looked at in one round: its cost stays flat as the queue grows."""
_LOCK_KEY = 0x5A4DB0C6

PLACEMENT_SECONDS = Histogram(
    "sandbox_placement_seconds",
    "Time of one round of placement in this process",
    registry=None,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1),
)

Message = tuple[str, str, int]
"""(worker, task, attempt): what `deliver` sends after the transaction that placed it."""


def take_turn(tx: sa.Connection) -> None:
    """Let one transaction at a time place, end or cancel tasks. Call it first in every one that may `place`.

    First, because a transaction that waited here with a task's row in hand would be waited for by the placing one.
    """
    if tx.dialect.name == "postgresql":  # on SQLite the write transaction itself is the lock
        tx.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})


@PLACEMENT_SECONDS.time()
def place(tx: sa.Connection, at: datetime) -> list[Message]:
    """Run one round of placement in a transaction that took its turn; return what to send after its commit.

    Called when room appeared: an attempt ended, a worker reported.
    """
    waiting = queue.candidates(tx, at, ROUND)
    if not waiting:
        return []
    messages = _assign(tx, waiting, at)
    if len(waiting) == ROUND:  # a crowd that waits for one worker must not hide the task that fits another
        rooms = [host.room for host in workers.hosts(tx) if host.has_room]
        messages += _assign(tx, queue.candidates(tx, at, ROUND, rooms), at) if rooms else []
    return messages


@PLACEMENT_SECONDS.time()
def place_one(tx: sa.Connection, task_id: str, at: datetime) -> list[Message]:
    """Place a task that was just stored. No room appeared, so the others that wait need no second look."""
    return _assign(tx, queue.candidates(tx, at, 1, only=task_id), at)


def _assign(tx: sa.Connection, candidates: list[Candidate], at: datetime) -> list[Message]:
    waiting = {one.wanted.task_id: one for one in candidates}
    result = placement.place([one.wanted for one in candidates], workers.hosts(tx))
    news = [(task_id, why) for task_id, why in result.waiting.items() if waiting[task_id].reason != why]
    queue.set_waiting(tx, news)
    return [
        (one.worker, one.task_id, waiting[one.task_id].attempt + 1)
        for one in result.assignments
        if queue.assign(tx, one, at)
    ]


def deliver(broker: Broker, messages: Iterable[Message]) -> None:
    """Ring for what was placed. A message that cannot be sent is sent again by the reaper."""
    for worker, task_id, attempt in messages:
        try:
            broker.send_attempt(worker, task_id, attempt)
        except BrokerUnavailable as error:
            log.warning("broker unavailable, message will be sent again", extra={"task": task_id, "error": str(error)})
            return


def wanted(manifest: Manifest, task_id: str, at: datetime) -> Wanted:
    return Wanted(
        task_id=task_id,
        priority=manifest.priority,
        created_at=at,
        requested=Resources(manifest.vm.cpus, manifest.vm.memory_bytes, manifest.vm.disk_bytes),
        profile=manifest.vm.profile,
        network_mode=manifest.vm.network_mode,
        agent=manifest.agent,
    )
