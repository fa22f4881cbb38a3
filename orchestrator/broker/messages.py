"""What is sent to workers: two kinds of doorbell."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError

from orchestrator.broker.app import BrokerSettings, create_app
from orchestrator.broker.options import queue_arguments
from orchestrator.broker.queues import CANCEL_ATTEMPT, RUN_ATTEMPT, worker_queue

_CONFIRM_SECONDS = 5.0
"""How long a server may take to confirm a publish (brokers that confirm; the others ignore it)."""

_SLOW_SECONDS = 1.0
_REST_SECONDS = 5.0
"""After a failure that took longer than `_SLOW_SECONDS`, messages are refused at once for so long.

A server that hangs costs each sender up to 10 s. Without this rest every request of the API and every round
of the reaper would wait that long; with it, one does and the others go on.
"""


class BrokerUnavailable(Exception):
    """The broker did not take a message or does not answer; the text says why. Trying again is safe."""

    exit_code = 5


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
        self._queue_arguments = queue_arguments(app.conf.broker_url)
        self._resting_until = float("-inf")
        connection: Any = app.connection_for_write()
        self._errors: tuple[type[Exception], ...] = (
            KombuError,
            OSError,
            *connection.connection_errors,
            *connection.channel_errors,
        )

    def send_attempt(self, worker: str, task_id: str, attempt: int) -> None:
        """Tell `worker` that `attempt` of the task is placed on it. The worker need not exist yet."""
        what = f"attempt {attempt} of task {task_id} was not announced to worker {worker}"
        self._send(what, RUN_ATTEMPT, worker, task_id, attempt)

    def send_cancel(self, worker: str, task_id: str, attempt: int) -> None:
        """Tell `worker`, and nobody else, that the cancellation of `attempt` is wanted."""
        what = f"the cancellation of task {task_id} was not announced to worker {worker}"
        self._send(what, CANCEL_ATTEMPT, worker, task_id, attempt)

    def ping(self) -> None:
        """Return when the broker can be reached, within about 10 seconds either way."""
        with self._translated("the broker was not reached"), self._app.connection_for_write() as connection:
            others = max(len(connection.alt) - 1, 0)  # further hosts in the URL
            connection.ensure_connection(max_retries=others, interval_start=0, interval_step=0)

    def close(self) -> None:
        """Close the pooled connections, which all brokers of a process with the same URL share.

        Call it when no thread sends. A later call of another method opens new ones.
        """
        for pool in self._pools:
            # Not force_close_all alone: it leaves a pool in which nothing can ever be found again, and the
            # next call of anybody waits for ever.
            pool.resize(pool.limit, force=True, reset=True)

    def _send(self, what: str, message: str, worker: str, task_id: str, attempt: int) -> None:
        if monotonic() < self._resting_until:
            raise BrokerUnavailable(
                f"{what}: the broker did not answer somebody else a moment ago. Nothing is lost, it is tried "
                "again by itself; check SANDBOX_BROKER_URL and that the broker runs."
            )
        with self._translated(what):
            self._app.send_task(
                message,
                args=(task_id, attempt),
                queue=worker_queue(worker, self._queue_arguments),  # type: ignore[arg-type]  # the types forget queue objects
                ignore_result=True,
                confirm_timeout=_CONFIRM_SECONDS,
            )

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        began = monotonic()
        try:
            yield
        except self._errors as error:
            if monotonic() - began > _SLOW_SECONDS:
                self._resting_until = monotonic() + _REST_SECONDS
            raise BrokerUnavailable(
                f"{what}: {type(error).__name__}: {error}. Nothing is lost, it is tried again by itself; "
                "check SANDBOX_BROKER_URL and that the broker runs."
            ) from error
        self._resting_until = float("-inf")


def open_broker(url: str) -> Broker:
    """The broker at `url`, not yet connected. Raises `ValueError` for a URL nobody here understands."""
    return Broker(create_app(BrokerSettings(url=url)))
