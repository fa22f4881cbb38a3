"""What the readers of one selection share: batches, their bound, what is held for an interval."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

from api.stream.frames import SSE, Frame, of_record
from api.stream.hub import HANDED_BYTES, MOST_WAITING_BYTES, Batch, Channel
from api.stream.selection import Selection
from orchestrator.journal import Place
from orchestrator.models import Kind, Record, TaskFacts

AT = datetime(2026, 1, 29, tzinfo=UTC)
TASK = TaskFacts("t", "T", {}, None, None)
PLENTY = 1 << 30


def output(position: int, size: int = 10) -> Frame:
    data = b"x" * (size - 1) + b"\n"
    return of_record(Record(position, "t", 1, position, position, AT, Kind.OUTPUT, "stdout", {}, data), TASK)


def channel(*, rate_limit_ms: int = 0) -> Channel:
    return Channel(Selection(rate_limit_ms=rate_limit_ms), Place(0, 0))


def offer(one: Channel, *frames: Frame, end: int, kept_bytes: int = PLENTY) -> None:
    one.offer(frames, Place(0, end), kept_bytes)


def read(one: Channel, position: int) -> tuple[list[int], int] | None:
    found = one.after(Place(0, position))
    if found is None:
        return None
    batches, end = found
    return [frame.place.position for batch in batches for frame in batch.frames if frame.place], end.position


def test_a_reader_gets_what_is_behind_its_place_and_the_place_reached() -> None:
    one = channel()
    offer(one, output(1), output(2), end=2)
    offer(one, output(5), end=7)
    assert read(one, 0) == ([1, 2, 5], 7)
    assert read(one, 2) == ([5], 7)
    assert read(one, 7) == ([], 7)


def test_a_reader_may_begin_within_a_batch() -> None:
    one = channel()
    offer(one, output(1), output(2), output(3), end=3)
    assert read(one, 2) == ([3], 3)


def test_the_place_moves_over_what_nobody_asked_for_and_no_bell_rings() -> None:
    one, bell = channel(), threading.Event()
    one.bells = frozenset({bell})
    offer(one, end=1)
    assert read(one, 0) == ([], 1)
    assert not bell.is_set()


def test_a_batch_rings_the_bell_of_each_reader() -> None:
    one, bells = channel(), [threading.Event() for _ in range(3)]
    one.bells = frozenset(bells)
    offer(one, output(1), end=1)
    assert all(bell.is_set() for bell in bells)


def test_what_does_not_fit_is_dropped_and_its_readers_are_sent_to_the_store() -> None:
    one = channel()
    for number in range(1, 11):
        offer(one, output(number, 1000), end=number, kept_bytes=9000)
    assert read(one, 0) is None
    assert read(one, 7) is None
    assert read(one, one.floor.position) == ([9, 10], 10)


def test_a_reader_that_is_behind_gets_a_bounded_part_at_once() -> None:
    one = channel()
    for number in range(1, 11):
        offer(one, output(number, HANDED_BYTES // 6), end=number)
    assert read(one, 0) == ([1, 2], 2)
    assert read(one, 2) == ([3, 4], 4)


def test_what_came_at_once_is_given_in_bounded_parts() -> None:
    one = channel()
    offer(one, *(output(number, HANDED_BYTES // 6) for number in range(1, 11)), end=12)
    assert read(one, 0) == ([1, 2], 2)
    assert read(one, 9) == ([10], 12)


def test_more_than_can_be_held_back_is_given_before_its_time() -> None:
    one = channel(rate_limit_ms=3_600_000)
    offer(one, output(1), end=1)
    for number in range(2, 12):
        offer(one, output(number, MOST_WAITING_BYTES // 24), end=number)
    assert read(one, 1) != ([], 1)


def test_within_an_interval_nothing_is_given_and_the_place_waits_with_it() -> None:
    one = channel(rate_limit_ms=3_600_000)
    offer(one, output(1), end=1)
    assert read(one, 0) == ([1], 1)
    offer(one, output(2), end=2)
    assert read(one, 1) == ([], 1)
    assert 0 < one.due_in() <= 3600
    offer(one, end=3)
    assert read(one, 1) == ([], 1)


def test_what_readers_are_given_is_rendered_already_so_that_none_sees_it_half_made() -> None:
    one, frame = channel(), output(1)
    offer(one, frame, end=1)
    assert frame.is_settled
    assert frame.record is not None
    assert frame.record.data is None
    assert b'"bytes": 10' in frame.sse()


def test_a_batch_is_rendered_once_for_all_its_readers() -> None:
    batch = Batch([output(1), output(2)], Place(0, 2))
    assert batch.rendered(SSE) is batch.rendered(SSE)
    assert batch.rendered(SSE).count(b"\n\n") == 2
    assert batch.behind(Place(0, 1)).rendered(SSE).startswith(b"id: 0-2\n")
