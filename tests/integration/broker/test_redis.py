"""What only Redis has: expiring lists, a user with few rights, a full memory."""

from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from orchestrator.broker.messages import Broker, BrokerUnavailable, open_broker
from tests.integration.broker.conftest import Fleet, Server
from tests.integration.broker_programs.processes import wait_until
from tests.servers.redis import RedisServer


@pytest.fixture
def kind() -> str:
    return "redis"


@pytest.fixture
def client(server: Server) -> Any:
    return Redis.from_url(server.url)


def test_a_list_goes_an_hour_after_its_last_message(broker: Broker, client: Any, name: str) -> None:
    broker.send_attempt(name, "t1", 1)
    assert 3_500_000 < client.pttl(f"w.{name}") <= 3_600_000


def test_a_flushed_database_costs_a_running_worker_nothing(
    broker: Broker, client: Any, fleet: Fleet, name: str
) -> None:
    worker = fleet.start(name)
    client.flushall()
    broker.send_attempt(name, "t1", 1)
    worker.wait_for("attempt t1 1")


def test_a_user_with_the_rights_of_the_manual_can_send_and_receive(
    server: Server, client: Any, fleet: Fleet, name: str
) -> None:
    manual = (Path(__file__).parents[3] / "docs/brokers/redis.md").read_text()
    (line,) = [line for line in manual.splitlines() if line.startswith("ACL SETUSER")]
    client.execute_command(*line.replace("PASSWORD", "secret").split())
    url = server.url.replace("redis://", "redis://sandbox:secret@")
    broker = open_broker(url)
    worker = fleet.start(name, url=url)
    broker.send_attempt(name, "t1", 1)
    worker.wait_for("attempt t1 1")
    assert worker.terminate() == 0
    broker.close()


def test_a_full_memory_refuses_messages_and_says_so(tmp_path: Path) -> None:
    with RedisServer(tmp_path, {"maxmemory": "1mb"}) as server:
        broker = open_broker(server.url)
        with pytest.raises(BrokerUnavailable, match="maxmemory"):
            broker.send_attempt("one", "t1", 1)
        broker.close()


def test_what_a_killed_worker_had_in_hand_does_not_stop_the_next_one(broker: Broker, fleet: Fleet, name: str) -> None:
    first = fleet.start(name, attempt_seconds=0.05)
    for number in range(30):
        broker.send_attempt(name, f"t{number}", 1)
    wait_until(lambda: len(first.lines("attempt")) >= 3, "some have arrived")
    first.kill()
    second = fleet.start(name)
    broker.send_attempt(name, "last", 1)
    second.wait_for("attempt last 1")
    assert len(set(second.lines("attempt"))) >= 31 - 4
