"""Short tasks a second on PostgreSQL and RabbitMQ, beside the embedded store and broker on the same machine."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.stack import CONCURRENCY, running_stack
from tests.benchmarks.stores import durable_cluster
from tests.benchmarks.table import Row
from tests.benchmarks.throughput import tasks_seconds
from tests.servers.rabbitmq import RabbitServer


def beside_embedded(image: str, tasks: int) -> list[Row]:
    """Half of the embedded tasks run before, half after: against drift. Only one product runs at a time."""
    before = _embedded_seconds(image, tasks // 2)
    with ExitStack() as undo:
        directory = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)))
        broker = undo.enter_context(RabbitServer(directory))
        settings = {
            "SANDBOX_STORE_URL": undo.enter_context(durable_cluster()).url("postgres"),
            "SANDBOX_BROKER_URL": broker.url,
        }
        took = tasks_seconds(undo.enter_context(running_stack(image, settings)), tasks)
    after = _embedded_seconds(image, tasks - tasks // 2)
    return [
        Row(
            f"{tasks} no-op tasks at concurrency {CONCURRENCY}, PostgreSQL + RabbitMQ",
            tasks / took,
            "tasks/s",
            tasks,
            beside="embedded, same tasks",
            limit=tasks / (before + after),
            note="first POST → last completed",
        )
    ]


def _embedded_seconds(image: str, tasks: int) -> float:
    with running_stack(image) as stack:
        return tasks_seconds(stack, tasks)
