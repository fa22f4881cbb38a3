"""The Celery application: every setting with its reason."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from celery import Celery

from orchestrator.broker.options import broker_settings, transport_options
from orchestrator.broker.transport import SCHEME, register

_SETTINGS: dict[str, Any] = {
    # Messages are doorbells (the store is the truth), so they are acknowledged before anything is done. Late
    # acknowledgement redelivers long tasks (Redis: after the visibility timeout, twice at once) and can end
    # the worker (RabbitMQ's consumer timeout).
    "task_acks_late": False,
    "task_reject_on_worker_lost": False,
    # The store decides what runs where; a worker must not hoard messages.
    "worker_prefetch_multiplier": 1,
    # Outcomes are in the store. A result backend would be a second truth.
    "task_ignore_result": True,
    "result_backend": None,
    # Whoever can write to the broker must not be able to run code by a pickle.
    "accept_content": ["json"],
    "task_serializer": "json",
    "result_serializer": "json",
    "event_serializer": "json",
    # Celery's control commands include shutdown, revoke and add_consumer: more than a broker's users should
    # have. Cancellations are messages in the worker's queue.
    "worker_enable_remote_control": False,
    # A worker waits for its broker for ever: the default, 100 attempts, ends it. How, says `PatientConsumer`.
    "worker_consumer": "orchestrator.broker.connecting:PatientConsumer",
    "broker_connection_max_retries": None,
    "broker_connection_retry": True,
    "broker_connection_retry_on_startup": True,
    # A broker's restart must not stop a sandbox. Explicit, because Celery 6 changes the default.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    # A publish that fails is rung again by the reaper, so a request does not wait for a broker: one second
    # attempt at once, which is what a pooled connection needs after the broker restarted.
    "task_publish_retry": True,
    "task_publish_retry_policy": {
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0,
        "interval_max": 0,
    },
    "broker_connection_timeout": 2.0,
    # Messages go to a worker's queue by the broker's default exchange: there is nothing to bind.
    "task_default_exchange": "",
    # A queue exists because a worker has it; a misspelt name must be an error, not a new queue.
    "task_create_missing_queues": False,
    # Logging is ours: Celery neither replaces handlers nor captures stdout.
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    # Nobody reads Celery's events; heartbeats and states are in the store.
    "worker_send_task_events": False,
    "task_send_sent_event": False,
}


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Which broker to use.

    `url` is that of a server (``amqp://…``, ``redis://…``), or ``sandboxfs:///absolute/directory`` with the
    path percent-encoded. With `directory` set, `url` is not used: the embedded broker keeps its files there.
    """

    url: str = ""
    directory: Path | None = None

    @property
    def effective_url(self) -> str:
        """The URL to connect to. Raises `ValueError` when neither field is set."""
        if self.directory is not None:
            return f"{SCHEME}://{quote(str(self.directory.absolute()))}"
        if not self.url:
            raise ValueError("No broker is configured: neither a URL nor a directory is given. Set SANDBOX_BROKER_URL.")
        return self.url


def create_app(settings: BrokerSettings) -> Celery:
    """The Celery application for `settings`. Connects to nothing.

    Raises `ValueError` for a broker URL whose scheme is not supported.
    """
    register()
    url = settings.effective_url
    app = Celery("sandbox", broker=url, set_as_current=False, fixups=[])
    app.conf.update(_SETTINGS)
    app.conf.update(broker_settings(url), broker_transport_options=transport_options(url))
    app.finalize()
    return app
