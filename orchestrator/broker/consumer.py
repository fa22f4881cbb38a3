"""The receiving side: a Celery worker inside the worker process.

A process that does nothing but this has an RSS of 34 MB and uses no CPU while idle (one look a second).
"""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from celery import Celery
from celery.app import trace
from celery.worker import state
from celery.worker.control import Panel

from orchestrator.broker.queues import CANCEL_ATTEMPT, RUN_ATTEMPT, node_name, worker_queue

logger = logging.getLogger(__name__)

Listener = Callable[[str, int], None]
"""Called with task id and attempt."""

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

    - `on_attempt` is called in a pool thread, two at a time at most. It hands the attempt over and returns at
      once (10 ms): shutdown waits for it. What it raises is logged; the reaper rings again.
    - `on_cancel` is called in the main thread and must be as quick: nothing is received meanwhile.
    - `on_ready` is called once, in the main thread, when messages are being received.
    - `on_stopping` is called once, in a thread of its own, as soon as the signal has come (or the worker
      ended by itself), and `run_worker` returns after it. No new call of `on_attempt` begins after the
      signal; what arrives then is put back into the queue for the next start.

    A broker that is away is waited for, without end. Threads of the caller are left alone.
    Raises `WorkerEnded` when Celery's worker ended without being asked to.
    """
    _keep_celery_quiet()
    app.conf.task_queues = [worker_queue(name)]
    app.conf.task_default_queue = f"w.{name}"
    stopping = threading.Event()
    refused = _receive_attempts(app, on_attempt, stopping)
    _receive_only_our_commands(on_cancel)
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
    for task_id, attempt in refused:
        app.send_task(RUN_ATTEMPT, args=(task_id, attempt), queue=worker_queue(name))  # type: ignore[arg-type]
    if controller.exitcode:
        raise WorkerEnded(
            f"The message consumer of worker {name} ended with code {controller.exitcode}; the log line "
            "before this one says why. Start the worker again: its sandboxes go on and are adopted."
        )


def _receive_attempts(app: Celery, on_attempt: Listener, stopping: threading.Event) -> list[tuple[str, int]]:
    refused: list[tuple[str, int]] = []

    @app.task(name=RUN_ATTEMPT, shared=False)
    def run_attempt(task_id: str, attempt: int) -> None:
        if stopping.is_set():
            refused.append((task_id, attempt))
            return
        try:
            on_attempt(task_id, attempt)
        except Exception:
            logger.exception("attempt was not taken", extra={"task_id": task_id, "attempt": attempt})

    return refused


def _receive_only_our_commands(on_cancel: Listener) -> None:
    def cancel_attempt(_state: Any, task_id: str, attempt: int) -> None:
        on_cancel(task_id, attempt)

    # Celery's own commands include shutdown, revoke and add_consumer: more than a broker's users should have.
    Panel.data.clear()
    Panel.register(cancel_attempt, name=CANCEL_ATTEMPT)


@contextmanager
def _stopped_by_signal(controller: Any, stopping: threading.Event) -> Iterator[None]:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()
        state.should_stop = 0  # type: ignore[assignment]  # Celery's loop looks at it between two messages
        consumer = getattr(controller, "consumer", None)
        connection = consumer and consumer.connection
        # Ours can be told to stop delivering at once; the others return within about a second.
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


def _keep_celery_quiet() -> None:
    for name in ("celery", "kombu"):
        logging.getLogger(name).setLevel(logging.WARNING)
