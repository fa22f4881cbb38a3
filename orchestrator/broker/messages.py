"""What is sent to workers: two kinds of doorbell."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError

from orchestrator.broker.app import BrokerSettings, create_app
from orchestrator.broker.queues import CANCEL_ATTEMPT, RUN_ATTEMPT, node_name, worker_queue

_CONFIRM_SECONDS = 5.0
"""How long a server may take to confirm a publish (brokers that confirm; the others ignore it)."""


class BrokerUnavailable(Exception):
    """The broker did not take a message or does not answer; the text says why. Trying again is safe."""


class Broker:
    """Sends doorbells to workers.

    A message is sent after the transaction it tells about has committed. Sending one twice is harmless; one
    that was lost is sent again by the reaper. So every method either hands the message to the broker or
    raises `BrokerUnavailable`, and none says that a worker has seen it. No method waits for a worker.

    All methods may be called from any thread; each publish takes a connection out of a pool of ten, made when
    first needed. The first call must come after a fork, not before it.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        # Built here, not by whichever two request threads come first: Celery makes these lazily and unlocked.
        self._pools: tuple[Any, ...] = (app.amqp.producer_pool, app.pool)
        self._control = app.control
        connection: Any = app.connection_for_write()
        self._errors: tuple[type[Exception], ...] = (
            KombuError,
            OSError,
            *connection.connection_errors,
            *connection.channel_errors,
        )

    def send_attempt(self, worker: str, task_id: str, attempt: int) -> None:
        """Tell `worker` that `attempt` of the task is placed on it. The worker need not exist yet."""
        with self._translated(f"attempt {attempt} of task {task_id} was not announced to worker {worker}"):
            self._app.send_task(
                RUN_ATTEMPT,
                args=(task_id, attempt),
                queue=worker_queue(worker),  # type: ignore[arg-type]  # the types forget queue objects
                ignore_result=True,
                confirm_timeout=_CONFIRM_SECONDS,
            )

    def send_cancel(self, worker: str, task_id: str, attempt: int) -> None:
        """Tell `worker`, and nobody else, that the cancellation of `attempt` is wanted."""
        with self._translated(f"the cancellation of task {task_id} was not announced to worker {worker}"):
            self._control.broadcast(
                CANCEL_ATTEMPT,
                arguments={"task_id": task_id, "attempt": attempt},
                destination=[node_name(worker)],
            )

    def ping(self) -> None:
        """Return when the broker can be reached, within about 5 seconds either way."""
        with self._translated("the broker was not reached"), self._app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=5)

    def close(self) -> None:
        """Close the pooled connections, which all brokers of a process with the same URL share.

        Call it when no thread sends. A later call of another method opens new ones.
        """
        for pool in self._pools:
            pool.force_close_all(close_pool=False)

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise BrokerUnavailable(
                f"{what}: {type(error).__name__}: {error}. Nothing is lost, it is tried again by itself; "
                "check SANDBOX_BROKER_URL and that the broker runs."
            ) from error


def open_broker(url: str) -> Broker:
    """The broker at `url`, not yet connected. Raises `ValueError` for a URL nobody here understands."""
    return Broker(create_app(BrokerSettings(url=url)))
