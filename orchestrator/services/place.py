"""Place pending tasks on workers, or keep the reason each one waits."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime

import sqlalchemy as sa
from prometheus_client import Histogram

from orchestrator import placement
from orchestrator.broker.messages import Broker, BrokerUnavailable
from orchestrator.store import queue, waiting, workers
from orchestrator.store.queue import Line

log = logging.getLogger(__name__)

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
    queue.end_backoff(tx, at)
    queue.class_unclassed(tx)
    return _assign(tx, queue.lines(tx), at)


@PLACEMENT_SECONDS.time()
def place_one(tx: sa.Connection, task_id: str, at: datetime) -> list[Message]:
    """Place a task that was just stored. No room appeared, so the others that wait need no second look."""
    return _assign(tx, queue.line_of(tx, task_id), at)


def _assign(tx: sa.Connection, lines: Mapping[str, Line], at: datetime) -> list[Message]:
    if not lines:
        return []
    hosts, registered = workers.hosts(tx)
    result = placement.place({key: line.tasks for key, line in lines.items()}, hosts, registered=registered)
    news = {demand: reason for demand, reason in result.waiting.items() if lines[demand].reason != reason}
    waiting.set_reasons(tx, news)
    attempts = ((one.worker, one.task_id, queue.assign(tx, one, at)) for one in result.assignments)
    return [(worker, task_id, attempt) for worker, task_id, attempt in attempts if attempt is not None]


def deliver(broker: Broker, messages: Iterable[Message]) -> None:
    """Ring for what was placed. A message that cannot be sent is sent again by the reaper."""
    for worker, task_id, attempt in messages:
        try:
            broker.send_attempt(worker, task_id, attempt)
        except BrokerUnavailable as error:
            log.warning("broker unavailable, message will be sent again", extra={"task": task_id, "error": str(error)})
            return
