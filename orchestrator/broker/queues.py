"""The names both sides of the broker use."""

from kombu import Exchange, Queue

RUN_ATTEMPT = "run_attempt"
"""Celery task: (task_id, attempt) is placed on the worker that reads the queue."""

CANCEL_ATTEMPT = "cancel_attempt"
"""Control command: somebody asked for the cancellation of (task_id, attempt); the store says the rest."""

CONTROL_EXCHANGE = "sandbox"
"""Not Celery's default name: other Celery applications on the same broker must not hear our commands."""


def worker_queue(worker: str) -> Queue:
    """The queue of one worker. Messages go there by the default exchange, so there is nothing to bind."""
    name = f"w.{worker}"
    return Queue(name, exchange=Exchange(""), routing_key=name, durable=True)


def node_name(worker: str) -> str:
    """The name under which a worker answers to control commands."""
    return f"sandbox@{worker}"
