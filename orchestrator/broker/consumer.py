"""The receiving side: a Celery worker inside the worker process.

A process that does nothing but this has an RSS of 34 MB and uses no CPU while idle (one look a second).
"""

import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from celery import Celery
from celery.app import trace
from celery.exceptions import CPendingDeprecationWarning
from celery.worker import state

from orchestrator.broker.messages import Broker, BrokerUnavailable
from orchestrator.broker.options import queue_arguments
from orchestrator.broker.queues import CANCEL_ATTEMPT, RUN_ATTEMPT, node_name, worker_queue

logger = logging.getLogger(__name__)

Listener = Callable[[str, int], None]
"""Called with task id and attempt."""

_Refused = list[tuple[str, str, int]]
"""Messages that arrived during the shutdown: Celery task, task id, attempt."""

_THREADS = 2  # one may wait for the store while the other takes the next message


class WorkerEnded(Exception):
    """The Celery worker ended by itself; its log says why."""


def run_worker(
    app: Celery,
    name: str,
    *,
    on_attempt: Listener,
    on_cancel: Listener,
    on_ready: Callable[[], None],
    on_stopping: Callable[[], None],
) -> None:
    """Receive the messages for worker `name` until TERM or INT, then return within about a second.

    Must be called in the main thread, once per `app`; the two signals' handlers are its own meanwhile.

    - `on_attempt` and `on_cancel` are called in pool threads, two calls at a time at most. They hand the
      matter over and return at once (10 ms): shutdown waits for them. What they raise is logged; the reaper
      rings again.
    - `on_ready` is called once, in the main thread, when messages are being received.
    - `on_stopping` is called once, in a thread of its own, as soon as the signal has come (or the worker
      ended by itself), and `run_worker` returns after it. No new call of `on_attempt` or `on_cancel`
      begins after the signal; what arrives then is put back into the queue for the next start.

    A broker that is away is waited for, without end. Threads of the caller are left alone.
    Raises `WorkerEnded` when Celery's worker ended without being asked to.
    """
    _keep_celery_quiet()
    app.conf.task_queues = [worker_queue(name, queue_arguments(app.conf.broker_url))]
    app.conf.task_default_queue = f"w.{name}"
    stopping = threading.Event()
    refused: _Refused = []
    _receive(app, RUN_ATTEMPT, on_attempt, stopping, refused)
    _receive(app, CANCEL_ATTEMPT, on_cancel, stopping, refused)
    controller = app.WorkController(
        hostname=node_name(name),
        pool="threads",
        concurrency=_THREADS,
        # The three talk to other workers and send heartbeats over the broker; the store does all of that.
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        ready_callback=lambda _consumer: on_ready(),
    )
    # Pool threads find the task by the process's default application.
    trace.setup_worker_optimizations(app, node_name(name))
    with _stopped_by_signal(controller, stopping), _announced(stopping, on_stopping):
        controller.start()
    _put_back(app, name, refused)
    if controller.exitcode:
        raise WorkerEnded(
            f"The message consumer of worker {name} ended with code {controller.exitcode}; the log line "
            "before this one says why. Start the worker again: its sandboxes go on and are adopted."
        )


def _receive(app: Celery, message: str, listener: Listener, stopping: threading.Event, refused: _Refused) -> None:
    @app.task(name=message, shared=False)
    def received(task_id: str, attempt: int) -> None:
        if stopping.is_set():
            refused.append((message, task_id, attempt))
            return
        try:
            listener(task_id, attempt)
        except Exception:
            logger.exception("message was not taken", extra={"kind": message, "task_id": task_id, "attempt": attempt})


def _put_back(app: Celery, name: str, refused: _Refused) -> None:
    broker = Broker(app)
    send = {RUN_ATTEMPT: broker.send_attempt, CANCEL_ATTEMPT: broker.send_cancel}
    try:
        for message, task_id, attempt in refused:
            send[message](name, task_id, attempt)
    except BrokerUnavailable as error:
        logger.warning("messages not put back, the reaper rings again", extra={"why": str(error)})


@contextmanager
def _stopped_by_signal(controller: Any, stopping: threading.Event) -> Iterator[None]:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()
        state.should_stop = 0  # type: ignore[assignment]  # Celery's loop looks at it between two messages
        consumer = getattr(controller, "consumer", None)
        connection = consumer and consumer.connection
        # The embedded one can be told to stop delivering at once; the others look up once a second.
        getattr(connection and connection.transport, "stop_delivering", lambda: None)()

    state.should_stop = None
    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _announced(stopping: threading.Event, on_stopping: Callable[[], None]) -> Iterator[None]:
    # A thread, because a signal handler must not take locks, and because Celery's loop may sit in a call.
    def announce() -> None:
        stopping.wait()
        on_stopping()

    announcer = threading.Thread(target=announce, name="stopping", daemon=True)
    announcer.start()
    try:
        yield
    finally:
        stopping.set()
        announcer.join()


def _without_alarm(record: logging.LogRecord) -> bool:
    """What a broker going down did not take (an acknowledgement, a goodbye) is no alarm: messages are doorbells.

    The message tells the error; the traceback would only lead through Celery.
    """
    record.exc_info, record.exc_text = None, None
    record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


def _keep_celery_quiet() -> None:
    for name in ("celery", "kombu"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("celery.worker.request", "celery.worker.loops"):
        logging.getLogger(name).addFilter(_without_alarm)
    # Celery announces a new default at each lost connection although the setting has been chosen explicitly.
    warnings.filterwarnings(
        "ignore", r"(?s)\s*In Celery 5\.1 we introduced an optional breaking change", CPendingDeprecationWarning
    )
