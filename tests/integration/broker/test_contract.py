"""What every broker promises while it runs."""

import threading
from collections import Counter

import pytest

from orchestrator.broker.messages import Broker
from tests.integration.broker.conftest import Fleet
from tests.integration.broker_programs.processes import wait_until


def test_messages_sent_before_the_worker_exists_arrive_when_it_starts(broker: Broker, fleet: Fleet, name: str) -> None:
    broker.send_attempt(name, "t1", 1)
    broker.send_cancel(name, "t1", 1)
    worker = fleet.start(name)
    worker.wait_for("attempt t1 1")
    worker.wait_for("cancel t1 1")


def test_500_messages_from_4_threads_arrive_each_at_the_worker_it_names(
    broker: Broker, fleet: Fleet, name: str
) -> None:
    workers = [fleet.start(f"{name}-{number}") for number in range(2)]

    def publish(thread: int) -> None:
        for number in range(125):
            broker.send_attempt(f"{name}-{number % 2}", f"t{thread}-{number}", 1)

    threads = [threading.Thread(target=publish, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for parity, worker in enumerate(workers):
        expected = {
            f"attempt t{thread}-{number} 1" for thread in range(4) for number in range(125) if number % 2 == parity
        }
        wait_until(lambda w=worker, e=expected: set(w.lines("attempt")) >= e, "all have arrived")  # type: ignore[misc]
        assert set(worker.lines("attempt")) == expected


def test_a_cancel_reaches_only_the_worker_it_names(broker: Broker, fleet: Fleet, name: str) -> None:
    one, two = fleet.start(f"{name}-1"), fleet.start(f"{name}-2")
    broker.send_cancel(f"{name}-2", "t1", 3)
    broker.send_cancel(f"{name}-1", "t2", 1)
    one.wait_for("cancel t2 1")
    two.wait_for("cancel t1 3")
    # A fan-out would have delivered the other's message before this one.
    for which, worker in enumerate((one, two), start=1):
        broker.send_cancel(f"{name}-{which}", "last", 1)
        worker.wait_for("cancel last 1")
    assert one.lines("cancel") == ["cancel t2 1", "cancel last 1"]
    assert two.lines("cancel") == ["cancel t1 3", "cancel last 1"]


def test_50_duplicates_are_delivered_and_what_follows_arrives(broker: Broker, fleet: Fleet, name: str) -> None:
    worker = fleet.start(name)
    threads = [
        threading.Thread(target=lambda: [broker.send_attempt(name, "t1", 1) for _ in range(13)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    broker.send_attempt(name, "after", 1)
    worker.wait_for("attempt after 1")
    wait_until(lambda: Counter(worker.lines("attempt")) == {"attempt t1 1": 52, "attempt after 1": 1}, "52 of one")


def test_what_arrives_during_the_shutdown_is_there_at_the_next_start(broker: Broker, fleet: Fleet, name: str) -> None:
    first = fleet.start(name, attempt_seconds=0.2)
    for number in range(20):
        broker.send_attempt(name, f"t{number}", 1)
    wait_until(lambda: len(first.lines("attempt")) >= 1, "the first attempt has arrived")
    assert first.terminate() == 0
    second = fleet.start(name)
    expected = {f"attempt t{number} 1" for number in range(20)}
    wait_until(lambda: set(second.lines("attempt")) == expected, "the others have arrived")


def test_an_idle_worker_ends_when_asked(fleet: Fleet, name: str) -> None:
    worker = fleet.start(name)
    assert worker.terminate() == 0
    assert worker.lines() == ["started", "ready", "stopping", "returned"]


def test_celerys_own_commands_are_not_heard(broker: Broker, fleet: Fleet, name: str) -> None:
    worker = fleet.start(name)
    broker._app.control.broadcast("shutdown")
    broker.send_attempt(name, "t1", 1)
    worker.wait_for("attempt t1 1")
    assert worker.lines("stopping") == []


def test_a_broker_that_runs_answers_a_ping(broker: Broker) -> None:
    broker.ping()


@pytest.mark.parametrize("kind", ["redis", "rabbitmq"])
def test_a_message_that_is_no_task_of_ours_is_dropped_and_the_next_one_arrives(
    broker: Broker, fleet: Fleet, name: str
) -> None:
    fleet.hears_strangers = True
    worker = fleet.start(name)
    with broker._app.connection_for_write() as connection, connection.Producer() as producer:
        for body in ("text", {"a": 1}, [[], {}, {}]):
            producer.publish(body, exchange="", routing_key=f"w.{name}")
        producer.publish(
            [["t1"], {}, {}], exchange="", routing_key=f"w.{name}", headers={"task": "another_task", "id": "1"}
        )
    broker.send_attempt(name, "good", 1)
    worker.wait_for("attempt good 1")
