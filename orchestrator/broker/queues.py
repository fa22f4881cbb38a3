"""The names both sides of the broker use, and how long a message is kept that nobody reads."""

from collections.abc import Mapping

from kombu import Exchange, Queue

RUN_ATTEMPT = "run_attempt"
"""Celery task: (task_id, attempt) is placed on the worker that reads the queue."""

CANCEL_ATTEMPT = "cancel_attempt"
"""Celery task: somebody asked for the cancellation of (task_id, attempt); the store says the rest.

In the worker's queue and not one of Celery's control commands: those go to every worker of the broker, are
lost while the worker is away (Redis), need a second queue each, and are published without a time limit.
"""

MESSAGE_TTL_SECONDS = 3600
"""Age at which a message nobody took is dropped.

Whatever is still wanted is rung again by the reaper; this only keeps the queues of workers that are gone
from growing.
"""


def worker_queue(worker: str, arguments: Mapping[str, int] | None = None) -> Queue:
    """The queue of one worker. Messages go there by the default exchange, so there is nothing to bind.

    `arguments` are those of `options.queue_arguments`; they matter where the queue is declared.
    """
    name = f"w.{worker}"
    return Queue(name, exchange=Exchange(""), routing_key=name, durable=True, queue_arguments=dict(arguments or {}))


def node_name(worker: str) -> str:
    """The name under which a worker's consumer appears in Celery's own log lines."""
    return f"sandbox@{worker}"
