"""Queues and binding tables on disk."""

import os
import threading
import time
from pathlib import Path

import pytest

from orchestrator.broker.message_files import MESSAGE_TTL_SECONDS, BrokerDirectoryRefused, MessageFiles


def drained(files: MessageFiles, queue: str) -> list[bytes]:
    messages = []
    while (message := files.take(queue)) is not None:
        messages.append(message)
    return messages


def test_messages_are_taken_in_the_order_they_were_published_whoever_published_them(tmp_path: Path) -> None:
    first, second = MessageFiles(tmp_path), MessageFiles(tmp_path)
    for number in range(0, 1200, 2):
        first.put("q", b"%d" % number)
        second.put("q", b"%d" % (number + 1))
    assert drained(MessageFiles(tmp_path), "q") == [b"%d" % number for number in range(1200)]


def test_each_message_goes_to_one_of_several_consumers(tmp_path: Path) -> None:
    publisher = MessageFiles(tmp_path)
    for number in range(400):
        publisher.put("q", b"%d" % number)
    taken: list[list[bytes]] = []
    threads = [threading.Thread(target=lambda: taken.append(drained(MessageFiles(tmp_path), "q"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(message) for some in taken for message in some) == list(range(400))


def test_a_message_taken_by_a_consumer_that_died_is_given_back(tmp_path: Path) -> None:
    files = MessageFiles(tmp_path)
    files.put("q", b"payload")
    waiting = next(files.queue_directory("q").glob("*.msg"))
    waiting.rename(files.queue_directory("q") / "taken" / waiting.name)
    assert files.take("q") is None
    files.restore_taken("q")
    assert files.take("q") == b"payload"


def test_a_message_in_the_hands_of_a_living_consumer_is_not_given_back(tmp_path: Path) -> None:
    import fcntl

    files = MessageFiles(tmp_path)
    files.put("q", b"payload")
    waiting = next(files.queue_directory("q").glob("*.msg"))
    taken = waiting.rename(files.queue_directory("q") / "taken" / waiting.name)
    with taken.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        files.restore_taken("q")
        assert files.take("q") is None
    assert taken.exists()


def test_the_next_publisher_drops_what_nobody_took_for_longer_than_the_limit(tmp_path: Path) -> None:
    files = MessageFiles(tmp_path)
    files.make_queue("q")
    old = time.time_ns() - int((MESSAGE_TTL_SECONDS + 60) * 1e9)
    young = time.time_ns() - int((MESSAGE_TTL_SECONDS - 60) * 1e9)
    for moment, payload in ((old, b"old"), (young, b"young")):
        (files.queue_directory("q") / f"{moment:020d}-0000001-0000000001.msg").write_bytes(payload)
    files.put("q", b"new")
    assert drained(files, "q") == [b"young", b"new"]


def test_bindings_made_at_once_are_all_kept(tmp_path: Path) -> None:
    def bind(number: int) -> None:
        MessageFiles(tmp_path).bind("exchange", ("", "", f"queue-{number}"))

    threads = [threading.Thread(target=bind, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bound = MessageFiles(tmp_path).bindings("exchange")
    assert sorted(bound) == sorted(("", "", f"queue-{number}") for number in range(20))


def test_an_unbound_queue_is_not_in_the_table_any_more(tmp_path: Path) -> None:
    files = MessageFiles(tmp_path)
    files.bind("exchange", ("", "", "one"))
    files.bind("exchange", ("", "", "two"))
    files.unbind("exchange", ("", "", "one"))
    assert files.bindings("exchange") == [("", "", "two")]


def test_a_torn_table_counts_as_empty_and_can_be_written_again(tmp_path: Path) -> None:
    files = MessageFiles(tmp_path)
    files.prepare()
    (tmp_path / "exchanges" / "exchange.json").write_text('[["", "", "on')
    assert files.bindings("exchange") == []
    files.bind("exchange", ("", "", "one"))
    assert files.bindings("exchange") == [("", "", "one")]


@pytest.mark.parametrize("queue", ["../../escape", "..", ".", "a/b", "ü %2F", "sandbox@host.example"])
def test_no_queue_name_leads_out_of_the_directory(tmp_path: Path, queue: str) -> None:
    files = MessageFiles(tmp_path / "broker")
    files.put(queue, b"payload")
    assert files.queue_directory(queue).parent == tmp_path / "broker" / "queues"
    assert [path.name for path in tmp_path.iterdir()] == ["broker"]
    assert files.take(queue) == b"payload"


def test_every_directory_is_for_its_owner_alone(tmp_path: Path) -> None:
    root = tmp_path / "broker"
    root.mkdir(mode=0o755)
    MessageFiles(root).make_queue("q")
    modes = {path.stat().st_mode & 0o777 for path in [root, *root.rglob("*")] if path.is_dir()}
    assert modes == {0o700}


def test_a_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    somebody_else = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: somebody_else)
    with pytest.raises(BrokerDirectoryRefused, match="belongs to user id"):
        MessageFiles(tmp_path).prepare()


def test_size_and_purge_count_the_waiting_messages(tmp_path: Path) -> None:
    files = MessageFiles(tmp_path)
    assert files.size("q") == 0
    assert files.purge("q") == 0
    for _ in range(3):
        files.put("q", b"payload")
    assert files.size("q") == 3
    assert files.purge("q") == 3
    assert files.take("q") is None
