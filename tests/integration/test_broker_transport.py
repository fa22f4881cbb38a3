"""The embedded broker with real worker processes."""

import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.broker.app import BrokerSettings, create_app
from orchestrator.broker.messages import Broker, BrokerUnavailable
from orchestrator.broker.queues import worker_queue
from tests.integration.broker_programs.processes import Worker, start_program, wait_until

StartWorker = Callable[..., Worker]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "broker; with + odd #name"


@pytest.fixture
def broker(directory: Path) -> Iterator[Broker]:
    broker = Broker(create_app(BrokerSettings(directory=directory)))
    yield broker
    broker.close()


@pytest.fixture
def start_worker(directory: Path, tmp_path: Path) -> Iterator[StartWorker]:
    workers: list[Worker] = []

    def start(name: str = "one", attempt_seconds: float = 0) -> Worker:
        url = BrokerSettings(directory=directory).effective_url
        workers.append(Worker(url, tmp_path / f"{name}.journal", name=name, attempt_seconds=attempt_seconds))
        return workers[-1]

    yield start
    for worker in workers:
        if worker.alive():
            worker.kill()


def waiting_files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and path.suffix == ".msg"]


def test_a_busy_publisher_neither_ends_the_worker_nor_loses_or_doubles_one_of_2000_messages(
    directory: Path, start_worker: StartWorker
) -> None:
    worker = start_worker()
    publisher = start_program("busy_publisher.py", directory, "one", 2000)
    assert publisher.wait() == 0
    wait_until(lambda: len(worker.lines("attempt")) >= 2000, "2,000 attempts have arrived")
    assert sorted(worker.lines("attempt")) == sorted(f"attempt t{number} 1" for number in range(2000))
    assert worker.alive()
    assert waiting_files(directory) == []


def test_messages_sent_while_the_worker_is_dead_arrive_once_after_its_restart(
    directory: Path, broker: Broker, start_worker: StartWorker
) -> None:
    start_worker().kill()
    for number in range(50):
        broker.send_attempt("one", f"t{number}", 1)
    for number in range(5):
        broker.send_cancel("one", f"t{number}", 1)
    worker = start_worker()
    wait_until(lambda: len(worker.lines()) >= 4 + 55, "everything has arrived")
    assert sorted(worker.lines("attempt")) == sorted(f"attempt t{number} 1" for number in range(50))
    assert sorted(worker.lines("cancel")) == [f"cancel t{number} 1" for number in range(5)]
    assert waiting_files(directory) == []


def test_a_worker_killed_at_work_costs_only_what_it_had_in_hand_and_doubles_nothing(
    broker: Broker, start_worker: StartWorker
) -> None:
    first = start_worker(attempt_seconds=0.02)
    for number in range(60):
        broker.send_attempt("one", f"t{number}", 1)
    wait_until(lambda: len(first.lines("attempt")) >= 5, "some attempts have arrived")
    first.kill()
    second = start_worker()
    broker.send_attempt("one", "last", 1)
    wait_until(lambda: "attempt last 1" in second.lines(), "the queue is empty")
    arrived = second.lines("attempt")
    assert len(set(arrived)) == len(arrived)
    assert len(arrived) >= 61 - 4  # two running and two prefetched: early acknowledgement, the reaper rings again


def test_a_control_message_reaches_the_one_worker_it_names(broker: Broker, start_worker: StartWorker) -> None:
    one, two = start_worker("one"), start_worker("two")
    broker.send_cancel("two", "t1", 3)
    broker.send_cancel("one", "t2", 1)
    wait_until(lambda: bool(one.lines("cancel") and two.lines("cancel")), "both have arrived")
    assert one.lines("cancel") == ["cancel t2 1"]
    assert two.lines("cancel") == ["cancel t1 3"]


def test_celerys_own_control_commands_are_not_obeyed(
    directory: Path, broker: Broker, start_worker: StartWorker
) -> None:
    worker = start_worker()
    create_app(BrokerSettings(directory=directory)).control.broadcast("shutdown")
    broker.send_cancel("one", "t1", 1)
    wait_until(lambda: worker.lines("cancel") == ["cancel t1 1"], "the command after it has arrived")
    assert worker.alive()


def test_undecodable_messages_are_set_aside_and_the_next_one_arrives(
    directory: Path, broker: Broker, start_worker: StartWorker
) -> None:
    worker = start_worker()
    queue = directory / "queues" / "w.one"
    bad_base64 = {"body": "abc", "properties": {"delivery_tag": "1", "body_encoding": "base64"}}
    unknown = {"body": "", "properties": {"delivery_tag": "2", "delivery_info": {}}}
    garbage = [b"", b'{"body": "aGFsZiB3cml0dGVu', b"{}", b"\xff\xfe", json.dumps(bad_base64).encode()]
    unasked = [json.dumps(unknown).encode()] * 3  # more than the prefetch window: each must free its place
    for number, payload in enumerate(garbage + unasked):
        (directory / "tmp" / "new").write_bytes(payload)
        (directory / "tmp" / "new").rename(queue / f"{time.time_ns():020d}-0000001-{number:010d}.msg")
    broker.send_attempt("one", "good", 1)
    wait_until(lambda: worker.lines("attempt") == ["attempt good 1"], "the good message has arrived")
    assert sorted(path.read_bytes() for path in (directory / "rejected").iterdir()) == sorted(garbage)
    assert worker.alive()


def test_a_full_prefetch_window_does_not_make_waiting_messages_wait_for_the_next_look(
    broker: Broker, start_worker: StartWorker
) -> None:
    for number in range(200):
        broker.send_attempt("one", f"t{number}", 1)
    worker = start_worker(attempt_seconds=0.01)
    # By the fallback alone, two messages a second, this would take 100 seconds.
    wait_until(lambda: len(worker.lines("attempt")) == 200, "200 attempts have arrived")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_worker_whose_supervisor_threads_live(
    start_worker: StartWorker, number: signal.Signals
) -> None:
    worker = start_worker()
    assert worker.terminate(number) == 0
    assert worker.lines() == ["started", "ready", "stopping", "returned"]


def test_messages_that_arrive_during_the_shutdown_are_there_at_the_next_start(
    broker: Broker, start_worker: StartWorker
) -> None:
    first = start_worker(attempt_seconds=0.2)
    for number in range(20):
        broker.send_attempt("one", f"t{number}", 1)
    wait_until(lambda: len(first.lines("attempt")) >= 1, "the first attempt has arrived")
    assert first.terminate() == 0
    assert len(first.lines("attempt")) < 20
    second = start_worker()
    wait_until(lambda: len(second.lines("attempt")) >= 20, "the others have arrived")
    assert sorted(second.lines("attempt")) == sorted(f"attempt t{number} 1" for number in range(20))


def test_a_removed_broker_directory_is_made_again_and_both_kinds_of_message_arrive(
    directory: Path, broker: Broker, start_worker: StartWorker
) -> None:
    worker = start_worker()
    broker.send_attempt("one", "before", 1)
    wait_until(lambda: worker.lines("attempt") == ["attempt before 1"], "the broker works")
    shutil.rmtree(directory.rename(directory.with_name("removed")))
    wait_until((directory / "queues" / "w.one").exists, "the worker has made its queue again")
    broker.send_attempt("one", "after", 1)
    broker.send_cancel("one", "after", 1)
    wait_until(lambda: worker.lines("cancel") == ["cancel after 1"], "the control message has arrived")
    wait_until(lambda: "attempt after 1" in worker.lines(), "the attempt has arrived")


def test_many_threads_publish_through_one_broker(directory: Path, broker: Broker) -> None:
    def publish(thread: int) -> None:
        for number in range(50):
            broker.send_attempt("one", f"t{thread}-{number}", 1)

    threads = [threading.Thread(target=publish, args=(thread,)) for thread in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(waiting_files(directory)) == 600


def test_a_message_carries_the_task_id_and_the_attempt_alone(directory: Path, broker: Broker) -> None:
    broker.send_attempt("one", "t1", 2)
    app = create_app(BrokerSettings(directory=directory))
    with app.connection_for_read() as connection, connection.channel() as channel:
        message = worker_queue("one")(channel).get(no_ack=True)
    assert message is not None
    assert message.payload[:2] == [["t1", 2], {}]


def test_a_broker_that_cannot_be_used_is_reported_by_every_method(directory: Path, broker: Broker) -> None:
    directory.write_text("a file is in the way")
    with pytest.raises(BrokerUnavailable, match="the broker was not reached"):
        broker.ping()
    with pytest.raises(BrokerUnavailable, match="attempt 2 of task t1 was not announced to worker one"):
        broker.send_attempt("one", "t1", 2)
    with pytest.raises(BrokerUnavailable, match="cancellation of task t1 was not announced to worker one"):
        broker.send_cancel("one", "t1", 2)
    directory.unlink()
    broker.ping()
    broker.send_attempt("one", "t1", 2)
    assert len(waiting_files(directory)) == 1
