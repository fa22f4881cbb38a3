"""How a worker's consumer waits for its broker: without end, briefly between attempts, interruptible."""

import logging
import time
from typing import Any

from celery.utils.threads import bound_open_broker_sockets  # type: ignore[attr-defined]  # newer than the types
from celery.worker.consumer import Consumer
from celery.worker.consumer.tasks import Tasks
from celery.worker.state import maybe_shutdown

logger = logging.getLogger(__name__)

_LONGEST_PAUSE_SECONDS = 5.0
"""Between two attempts to connect. Celery's own pause grows to 30 s: a broker that is back would be noticed late."""

_SLICE_SECONDS = 0.2  # a signal is noticed within this
_REPORT_SECONDS = 60.0  # one log line about a broker that stays away
_LOOK_SECONDS = 1.0
_GOODBYE_SECONDS = 0.5  # for each of up to seven answers


class WorkerQos(Tasks):
    """Asks for a prefetch limit per consumer, never per channel.

    Quorum queues refuse the latter (a vhost may make them the default), and RabbitMQ 4 deprecates it. It is
    only needed to change the limit of a running consumer, which we never do.
    """

    def qos_global(self, c: Any) -> bool:  # noqa: ARG002 (the signature is Celery's)
        """False."""
        return False


class PatientConsumer(Consumer):
    """Celery's consumer with our rules about a broker that is away."""

    connection_errors: tuple[type[Exception], ...]
    channel_errors: tuple[type[Exception], ...]

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc, valid-type]  # a variable to the types
        """Celery's steps, ours for the prefetch limit."""

        default_steps = tuple(
            f"{__name__}:WorkerQos" if step == "celery.worker.consumer.tasks:Tasks" else step
            for step in Consumer.Blueprint.default_steps
        )

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, however long that takes. Raises `WorkerShutdown` when a signal has asked for the end.

        Celery's own takes a refused login as an error that is not worth waiting for and tries again at once.
        """
        failures, reported_at = 0, float("-inf")
        while True:
            maybe_shutdown()
            try:
                conn.ensure_connection(max_retries=0, reraise_as_library_errors=False)
            except (*self.connection_errors, *self.channel_errors) as error:
                failures += 1
                conn.maybe_switch_next()  # of several hosts in the URL
                if time.monotonic() - reported_at >= _REPORT_SECONDS:
                    reported_at = time.monotonic()
                    # as_uri leaves the password out
                    logger.warning(
                        "broker not reached, trying again until it is",
                        extra={"broker": conn.as_uri(), "why": f"{type(error).__name__}: {error}"},
                    )
                _pause(min(_LONGEST_PAUSE_SECONDS, failures))
            else:
                if failures:
                    logger.info("broker reached again", extra={"broker": conn.as_uri(), "failures": failures})
                self.first_connection_attempt = False
                return conn

    def register_with_event_loop(self, hub: Any) -> None:
        """Let the event loop look up once a second: a signal does not end its wait, which may last 10 s."""
        super().register_with_event_loop(hub)
        hub.call_repeatedly(_LOOK_SECONDS, _look_up)

    def stop(self) -> None:
        """Say goodbye to the broker, but wait only briefly for each of its answers: it may be silent."""
        bound_open_broker_sockets(self.connection, _GOODBYE_SECONDS)
        super().stop()


def _pause(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        maybe_shutdown()
        time.sleep(_SLICE_SECONDS)


def _look_up() -> None:
    """Nothing to do: that the loop comes round is what it is for."""
