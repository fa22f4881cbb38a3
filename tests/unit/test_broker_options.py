"""What each kind of broker is told."""

import ssl
from pathlib import Path
from typing import Any

import pytest

from orchestrator.broker.app import BrokerSettings, create_app
from orchestrator.broker.messages import open_broker
from orchestrator.broker.options import broker_settings, queue_arguments, transport_options


def test_redis_gets_timeouts_so_that_no_publish_waits_for_ever() -> None:
    options = transport_options("redis://localhost:6379/0")
    assert options["socket_timeout"] == 5
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


@pytest.mark.parametrize(
    "url",
    [
        "amqp://user:half/secret@host//",
        "redis://:half#secret@host/0",
        "amqp://user:half?secret@host//",
        "amqp://host//;amqp://user:half/secret@other//",
        "amqp://host:0//",
    ],
)
def test_a_url_with_an_unquoted_password_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="percent-encode it") as caught:
        create_app(BrokerSettings(url=url))
    assert "half" not in f"{caught.value!r}"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_an_encrypted_connection_checks_the_servers_certificate_and_its_host() -> None:
    amqps: Any = create_app(BrokerSettings(url="amqps://host//")).connection_for_write()
    assert amqps.ssl == {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}
    rediss: Any = create_app(BrokerSettings(url="rediss://host/0")).connection_for_write()
    assert rediss.ssl == {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
    plain: Any = create_app(BrokerSettings(url="amqp://host//")).connection_for_write()
    assert not plain.ssl


def test_a_broker_that_was_closed_can_be_used_again(tmp_path: Path) -> None:
    broker = open_broker(f"sandboxfs://{tmp_path}/broker")
    for number in range(3):
        broker.send_attempt("one", f"t{number}", 1)
        broker.close()
    assert len(list(tmp_path.glob("broker/queues/w.one/*.msg"))) == 3


def test_the_queue_of_a_worker_that_never_returns_goes_after_an_hour() -> None:
    assert queue_arguments("amqp://host//") == {
        "x-expires": 3_600_000,
        "x-message-ttl": 3_600_000,
        "x-max-length": 10_000,
    }
    assert queue_arguments("redis://host/0") == {"x-expires": 3_600_000}
    assert queue_arguments("sandboxfs:///data/broker") == {}, "it drops messages by their age"


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
        ("worker_enable_remote_control", False),
        ("broker_connection_retry_on_startup", True),
        ("worker_cancel_long_running_tasks_on_connection_loss", False),
        ("worker_hijack_root_logger", False),
    ],
)
def test_the_application_has_the_setting_that_keeps_messages_mere_doorbells(name: str, value: object) -> None:
    app = create_app(BrokerSettings(directory=Path("/data/broker")))
    assert app.conf[name] == value
