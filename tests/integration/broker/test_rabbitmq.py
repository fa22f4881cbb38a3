"""What only RabbitMQ has: heartbeats, confirmation, bounded queues, several hosts."""

import shlex
from pathlib import Path

import pytest
from kombu import Connection

from orchestrator.broker.messages import Broker, BrokerUnavailable, open_broker
from tests.integration.broker.conftest import Fleet, Server
from tests.integration.broker.test_outages import arrives
from tests.integration.broker_programs.processes import wait_until
from tests.servers.process import free_port
from tests.servers.rabbitmq import RabbitServer


@pytest.fixture
def kind() -> str:
    return "rabbitmq"


def test_a_worker_notices_by_heartbeats_that_its_server_is_silent(
    server: RabbitServer, broker: Broker, fleet: Fleet, name: str
) -> None:
    worker = fleet.start(name, settings={"broker_heartbeat": 2})
    server.pause()
    wait_until(lambda: "broker not reached, trying again" in worker.log.read_text(), "it has noticed")
    server.resume()
    arrives(broker, worker, name, "after")
    assert worker.alive()


def test_a_queue_keeps_10000_messages_at_most_and_the_newest(server: Server, broker: Broker, name: str) -> None:
    broker.send_attempt(name, "first", 1)
    with Connection(server.url) as connection, connection.Producer() as producer:
        for _ in range(10_010):
            producer.publish({}, exchange="", routing_key=f"w.{name}")
        declared = connection.default_channel.queue_declare(f"w.{name}", passive=True)
        assert declared.message_count <= 10_000
        connection.default_channel.queue_delete(f"w.{name}")


def test_queue_and_messages_go_after_an_hour_without_a_reader(server: Server, broker: Broker, name: str) -> None:
    broker.send_attempt(name, "t1", 1)
    bounds = {"x-expires": 3_600_000, "x-message-ttl": 3_600_000, "x-max-length": 10_000}
    with Connection(server.url) as connection:
        channel = connection.default_channel
        # The server compares: another value is refused.
        channel.queue_declare(f"w.{name}", durable=True, auto_delete=False, arguments=bounds)
        for key in bounds:
            with pytest.raises(connection.channel_errors, match="inequivalent arg"):
                connection.channel().queue_declare(
                    f"w.{name}", durable=True, auto_delete=False, arguments=bounds | {key: 1000}
                )


def test_a_message_to_a_queue_that_was_deleted_makes_it_again(
    server: Server, broker: Broker, fleet: Fleet, name: str
) -> None:
    broker.send_attempt(name, "before", 1)
    with Connection(server.url) as connection:
        connection.default_channel.queue_delete(f"w.{name}")
    broker.send_attempt(name, "after", 1)
    worker = fleet.start(name)
    worker.wait_for("attempt after 1")
    assert worker.lines("attempt") == ["attempt after 1"]


def test_a_worker_whose_queue_is_deleted_makes_it_again(
    server: Server, broker: Broker, fleet: Fleet, name: str
) -> None:
    worker = fleet.start(name)
    arrives(broker, worker, name, "before")  # in the first 0.1 s Celery overhears that its queue has gone
    with Connection(server.url) as connection:
        connection.default_channel.queue_delete(f"w.{name}")
    arrives(broker, worker, name, "after")
    assert worker.alive()


def test_of_several_hosts_in_the_url_one_that_is_there_is_used(server: Server, fleet: Fleet, name: str) -> None:
    url = f"amqp://127.0.0.1:{free_port()}//;{server.url}"
    broker = open_broker(url)
    broker.ping()
    broker.send_attempt(name, "t1", 1)
    broker.close()
    fleet.start(name, url=url).wait_for("attempt t1 1")


def test_a_user_with_the_rights_of_the_manual_can_send_and_receive_and_no_more(
    server: RabbitServer, fleet: Fleet, name: str
) -> None:
    manual = (Path(__file__).parents[3] / "docs/brokers/rabbitmq.md").read_text()
    commands = [line for line in manual.splitlines() if line.startswith("rabbitmqctl add_") or "set_perm" in line]
    assert len(commands) == 3
    for command in commands:
        server.control(*shlex.split(command.replace("PASSWORD", "secret"))[1:])
    url = server.url.replace("amqp://", "amqp://sandbox:secret@").rstrip("/") + "/sandbox"
    broker = open_broker(url)
    worker = fleet.start(name, url=url)
    broker.send_attempt(name, "t1", 1)
    worker.wait_for("attempt t1 1")
    assert worker.terminate() == 0
    with Connection(url) as connection, pytest.raises(connection.channel_errors + connection.connection_errors):
        connection.default_channel.queue_declare("another")
    broker.close()


def test_a_user_without_rights_on_the_virtual_host_is_reported(server: Server) -> None:
    broker = open_broker(server.url.rstrip("/") + "/nowhere")
    with pytest.raises(BrokerUnavailable, match="nowhere"):
        broker.ping()
