"""What every broker's outage costs: nothing but time."""

import time
from collections.abc import Callable

import pytest

from orchestrator.broker.messages import Broker, BrokerUnavailable
from tests.integration.broker.conftest import Fleet, Server
from tests.integration.broker_programs.processes import Worker, wait_until

BOUND_SECONDS = 20.0
"""Longest a refused call may take here: the documented 10 s, doubled for a busy machine."""


def arrives(broker: Broker, worker: Worker, name: str, task_id: str) -> None:
    """Ring until the worker has heard it, as the reaper does: a doorbell may be lost, the next one counts."""

    def rung() -> bool:
        try:
            broker.send_attempt(name, task_id, 1)
            broker.send_cancel(name, task_id, 1)
        except BrokerUnavailable:
            time.sleep(0.5)
        return f"attempt {task_id} 1" in worker.lines() and f"cancel {task_id} 1" in worker.lines()

    wait_until(rung, f"{task_id} has arrived", seconds=60)


def reached(broker: Broker) -> bool:
    """Whether it answers a new connection in time: just started, or awake, on a busy machine it may not yet."""
    try:
        broker.ping()
    except BrokerUnavailable:
        return False
    return True


def refused(call: Callable[[], None]) -> str:
    """What `BrokerUnavailable` said; fails when the call took long or was accepted."""
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable) as caught:
        call()
    assert time.monotonic() - began < BOUND_SECONDS
    return str(caught.value)


def test_messages_survive_a_kill_of_the_broker_and_arrive_after_its_restart(
    server: Server, broker: Broker, fleet: Fleet, name: str
) -> None:
    # RabbitMQ promises its confirmed messages, and not a queue that it was told of a moment ago: seen to boot again
    # with "Recovering 0 queues". An orderly end writes the queue down.
    broker.send_attempt(name, "first", 1)
    server.stop()
    server.start()
    for number in range(20):
        broker.send_attempt(name, f"t{number}", 1)
    server.kill()
    server.start()
    worker = fleet.start(name)
    wait_until(lambda: len(set(worker.lines("attempt"))) == 21, "all have arrived")


def test_a_worker_outlives_a_kill_of_the_broker_and_hears_later_messages(
    server: Server, broker: Broker, fleet: Fleet, name: str
) -> None:
    worker = fleet.start(name)
    broker.send_attempt(name, "before", 1)
    worker.wait_for("attempt before 1")
    server.kill()
    refused(lambda: broker.send_attempt(name, "meanwhile", 1))
    server.start()
    arrives(broker, worker, name, "after")
    assert worker.alive()


@pytest.mark.faults_long
def test_a_worker_outlives_a_broker_that_comes_back_empty(
    server: Server, broker: Broker, fleet: Fleet, name: str
) -> None:
    worker = fleet.start(name)
    server.stop()
    server.empty()
    server.start()
    arrives(broker, worker, name, "after")
    assert worker.alive()


def test_the_first_message_after_a_restart_is_accepted_although_the_pooled_connection_is_dead(
    server: Server, broker: Broker, fleet: Fleet, name: str
) -> None:
    broker.send_attempt(name, "before", 1)
    server.kill()
    server.start()
    broker.send_attempt(name, "after", 1)
    fleet.start(name).wait_for("attempt after 1")


def test_every_method_reports_a_stopped_broker_soon_and_works_again_after_its_start(
    server: Server, broker: Broker, name: str
) -> None:
    broker.send_attempt(name, "before", 1)
    server.stop()
    assert f"attempt 2 of task t1 was not announced to worker {name}" in refused(
        lambda: broker.send_attempt(name, "t1", 2)
    )
    assert f"cancellation of task t1 was not announced to worker {name}" in refused(
        lambda: broker.send_cancel(name, "t1", 2)
    )
    assert "the broker was not reached" in refused(broker.ping)
    server.start()
    wait_until(lambda: reached(broker), "it is reached again")
    broker.send_attempt(name, "after", 1)


@pytest.mark.faults_long
def test_a_worker_started_while_the_broker_is_away_for_several_retries_becomes_ready_later(
    server: Server, broker: Broker, fleet: Fleet, name: str
) -> None:
    server.stop()
    worker = fleet.start(name, wait=False)
    worker.wait_for("started")
    wait_until(lambda: "broker not reached, trying again" in worker.log.read_text(), "it has tried")
    time.sleep(8)  # 1 + 2 + 3 seconds between the first attempts: several have failed
    assert worker.alive()
    server.start()
    worker.wait_for("ready")
    arrives(broker, worker, name, "t1")


@pytest.mark.faults_long
def test_a_worker_whose_broker_goes_away_for_several_retries_goes_on_later(
    server: Server, broker: Broker, fleet: Fleet, name: str
) -> None:
    worker = fleet.start(name)
    server.kill()
    wait_until(lambda: "broker not reached, trying again" in worker.log.read_text(), "it has tried")
    time.sleep(8)  # see above
    assert worker.alive()
    server.start()
    arrives(broker, worker, name, "t1")


@pytest.mark.faults_long
def test_a_worker_ends_when_asked_while_its_broker_is_away(server: Server, fleet: Fleet, name: str) -> None:
    worker = fleet.start(name)
    server.kill()
    wait_until(lambda: "broker not reached, trying again" in worker.log.read_text(), "it has noticed")
    assert worker.terminate() == 0
    assert worker.lines()[-2:] == ["stopping", "returned"]


@pytest.mark.faults_long
def test_a_worker_that_never_reached_its_broker_ends_when_asked(server: Server, fleet: Fleet, name: str) -> None:
    server.stop()
    worker = fleet.start(name, wait=False)
    wait_until(lambda: "broker not reached, trying again" in worker.log.read_text(), "it has tried")
    assert worker.terminate() == 0
    assert worker.lines() == ["started", "stopping", "returned"]


@pytest.mark.parametrize("kind", ["redis", "rabbitmq"])
class TestHalfOpen:
    """A paused server: its kernel accepts connections and data, and nobody answers."""

    @pytest.mark.parametrize("pooled", [True, False], ids=["pooled connection", "new connection"])
    def test_a_message_is_refused_in_bounded_time(
        self, server: Server, broker: Broker, fleet: Fleet, name: str, pooled: bool
    ) -> None:
        if pooled:
            broker.send_attempt(name, "before", 1)
        server.pause()
        refused(lambda: broker.send_attempt(name, "meanwhile", 1))
        began = time.monotonic()
        assert "did not answer somebody else" in refused(lambda: broker.send_cancel(name, "meanwhile", 1))
        assert time.monotonic() - began < 1, "the second sender does not wait"
        assert "the broker was not reached" in refused(broker.ping)
        server.resume()
        wait_until(lambda: reached(broker), "it is reached again")
        arrives(broker, fleet.start(name), name, "after")

    def test_a_worker_hears_later_messages_after_the_pause(
        self, server: Server, broker: Broker, fleet: Fleet, name: str
    ) -> None:
        worker = fleet.start(name)
        server.pause()
        refused(lambda: broker.send_attempt(name, "meanwhile", 1))
        server.resume()
        arrives(broker, worker, name, "after")
        assert worker.alive()

    def test_an_idle_worker_ends_when_asked(self, server: Server, fleet: Fleet, name: str) -> None:
        worker = fleet.start(name)
        server.pause()
        began = time.monotonic()
        assert worker.terminate() == 0
        assert time.monotonic() - began < BOUND_SECONDS
        assert worker.lines()[-2:] == ["stopping", "returned"]
