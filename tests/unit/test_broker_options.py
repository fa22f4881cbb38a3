"""What each kind of broker is told."""

from pathlib import Path
from typing import Any

import pytest

from orchestrator.broker.app import BrokerSettings, create_app
from orchestrator.broker.messages import open_broker
from orchestrator.broker.options import broker_settings, transport_options


def test_redis_gets_timeouts_so_that_no_publish_waits_for_ever() -> None:
    options = transport_options("redis://localhost:6379/0")
    assert options["socket_timeout"] == 10
    assert options["socket_connect_timeout"] == 5
    assert options["visibility_timeout"] == 3600
    assert broker_settings("rediss://localhost")["worker_disable_prefetch"] is True


def test_rabbitmq_confirms_what_is_published_and_notices_a_vanished_host_soon() -> None:
    assert transport_options("amqp://localhost")["confirm_publish"] is True
    assert broker_settings("amqps://localhost")["broker_heartbeat"] == 30


def test_the_embedded_broker_needs_no_options() -> None:
    assert transport_options("sandboxfs:///data/broker") == {}
    assert broker_settings("sandboxfs:///data/broker") == {}


@pytest.mark.parametrize("url", ["memory://", "kafka://localhost", "/data/broker", "sandboxfs://", "sandboxfs:///"])
def test_a_url_the_product_cannot_use_is_refused_with_the_remedy(url: str) -> None:
    with pytest.raises(ValueError, match=r"was not accepted: .* Use "):
        transport_options(url)


def test_a_directory_with_odd_characters_becomes_a_url_that_leads_back_to_it() -> None:
    directory = Path("/data/a b;c#d?e%f+g@h:i")
    transport: Any = create_app(BrokerSettings(directory=directory)).connection_for_write().transport
    assert transport.directory == directory


def test_a_broker_is_opened_by_its_url(tmp_path: Path) -> None:
    broker = open_broker(f"sandboxfs://{tmp_path}/broker")
    broker.send_attempt("one", "t1", 1)
    broker.close()
    assert len(list(tmp_path.glob("broker/queues/w.one/*.msg"))) == 1


def test_settings_without_url_and_directory_are_refused() -> None:
    with pytest.raises(ValueError, match="No broker is configured"):
        create_app(BrokerSettings())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task_acks_late", False),
        ("task_reject_on_worker_lost", False),
        ("worker_prefetch_multiplier", 1),
        ("task_ignore_result", True),
        ("result_backend", None),
        ("accept_content", ["json"]),
        ("broker_connection_max_retries", None),
        ("broker_connection_retry_on_startup", True),
        ("worker_cancel_long_running_tasks_on_connection_loss", False),
        ("worker_hijack_root_logger", False),
    ],
)
def test_the_application_has_the_setting_that_keeps_messages_mere_doorbells(name: str, value: object) -> None:
    app = create_app(BrokerSettings(directory=Path("/data/broker")))
    assert app.conf[name] == value
