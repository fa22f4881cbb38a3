"""The form of archived output: every row comes back as it was, and nothing else does."""

from __future__ import annotations

import gzip
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.archive import (
    HEAD_BYTES,
    MAX_ROWS,
    PACKED_EXTRA_BYTES,
    BrokenSegment,
    Packed,
    SegmentName,
    SegmentRows,
    pack,
    unpack,
)
from orchestrator.models import Kind, Record

AT = datetime(2026, 1, 29, 12, 0, 0, 123456, UTC)


def row(first_seq: int, data: bytes | None, *, last_seq: int | None = None, attempt: int = 1) -> Record:
    at = AT + timedelta(microseconds=first_seq)
    stream = "stderr" if first_seq % 3 else "stdout"
    last_seq = first_seq if last_seq is None else last_seq
    return Record(first_seq * 7, "t", attempt, first_seq, last_seq, at, Kind.OUTPUT, stream, {}, data or b"")


ROWS = [
    row(3, b"one\n"),
    row(5, b"two\nthree\n", last_seq=6),
    row(9, bytes(range(256)) * 4 + b"\n{}\n", last_seq=20, attempt=2),
    row(21, b"", attempt=2),
    replace(row(25, b"no end", attempt=2), body={"of": "another day"}),
]


def rows_of(packed: Packed) -> SegmentRows:
    return SegmentRows("t", unpack(packed.data, size_bytes=packed.size_bytes, sha256=packed.sha256))


def test_rows_come_back_as_they_were() -> None:
    found = rows_of(pack("t", ROWS))
    assert list(found.after(0)) == ROWS
    assert list(found.before(None)) == ROWS[::-1]
    assert (found.first_seq, found.last_seq) == (3, 25)


@pytest.mark.parametrize("cursor", range(27))
def test_every_cursor_splits_the_rows(cursor: int) -> None:
    found = rows_of(pack("t", ROWS))
    assert list(found.after(cursor)) == [one for one in ROWS if one.last_seq > cursor]
    assert list(found.before(cursor)) == [one for one in ROWS if one.last_seq < cursor][::-1]


def test_a_name_tells_what_is_inside_and_can_be_read_back() -> None:
    name = pack("t", ROWS).name
    assert name == SegmentName(3, 25, 1, 2, ROWS[-1].at)
    assert SegmentName.of_key(f"tasks/t/log/{name}") == name
    assert [attempt for attempt in range(5) if name.holds(attempt)] == [1, 2]
    with pytest.raises(BrokenSegment, match=r"tasks/t/log/1-2.zip is no name of a segment"):
        SegmentName.of_key("tasks/t/log/1-2.zip")


def test_the_same_rows_give_the_same_object() -> None:
    assert pack("t", ROWS) == pack("t", list(ROWS))


def test_an_operator_can_read_it_without_the_product() -> None:
    text = gzip.decompress(pack("t", ROWS[:2]).data)
    assert text.startswith(b'{"format":"sandbox-log-segment","version":1,"task_id":"t","rows":2}\n')
    assert b'"size":4}\none\n\n{' in text
    assert text.endswith(b"two\nthree\n\n")


def test_no_line_about_a_row_is_longer_than_planned() -> None:
    largest = replace(
        row(10**15, b"x", last_seq=10**15 + 10**6, attempt=10**9), position=10**15, at=datetime(2999, 1, 1, tzinfo=UTC)
    )
    with_it, without = pack("t", [ROWS[0], largest]), pack("t", [ROWS[0]])
    assert with_it.size_bytes - without.size_bytes - 1 <= HEAD_BYTES


def test_bytes_that_cannot_be_made_smaller_stay_within_what_a_reader_fetches() -> None:
    noise = random.Random(1).randbytes(8 << 20)  # noqa: S311 - a test that can be repeated
    packed = pack("t", [row(1, noise)])
    assert len(packed.data) <= packed.size_bytes + PACKED_EXTRA_BYTES
    assert [one.data for one in rows_of(packed).after(0)] == [noise]


def test_a_segment_of_many_small_rows_is_found_by_any_cursor() -> None:
    rows = [row(number, b"%d\n" % number) for number in range(1, MAX_ROWS + 1)]
    found = rows_of(pack("t", rows))
    assert next(found.after(9_999)) == rows[9_999]
    assert next(found.before(9_999)) == rows[9_997]


def damaged(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]


def test_no_damage_goes_unnoticed() -> None:
    packed = pack("t", ROWS)
    header_without_meaning = set(range(3, 10))  # gzip's flags, time and system: nothing of ours
    for at in set(range(len(packed.data))) - header_without_meaning:
        with pytest.raises(BrokenSegment):
            unpack(damaged(packed.data, at), size_bytes=packed.size_bytes, sha256=packed.sha256)
    for end in range(len(packed.data)):
        with pytest.raises(BrokenSegment):
            unpack(packed.data[:end], size_bytes=packed.size_bytes, sha256=packed.sha256)


def test_another_object_in_its_place_is_refused() -> None:
    packed, other = pack("t", ROWS), pack("t", ROWS[:2])
    with pytest.raises(BrokenSegment, match="checksum"):
        unpack(other.data, size_bytes=packed.size_bytes, sha256=packed.sha256)
    bomb = gzip.compress(bytes(64 << 20))
    with pytest.raises(BrokenSegment, match="checksum"):
        unpack(bomb, size_bytes=packed.size_bytes, sha256=packed.sha256)
    with pytest.raises(BrokenSegment, match="of task t"):
        SegmentRows("u", gzip.decompress(packed.data))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"text\n",
        b'{"format":"sandbox-log-segment","version":2,"task_id":"t","rows":1}\n',
        b'{"format":"sandbox-log-segment","version":1,"task_id":"t","rows":0}\n',
        b'{"format":"sandbox-log-segment","version":1,"task_id":"t","rows":1}\n{"size":3,"last_seq":1}\nab',
        b'{"format":"sandbox-log-segment","version":1,"task_id":"t","rows":1}\n{"size":"3","last_seq":1}\nabc\n',
    ],
)
def test_what_is_no_segment_of_this_format_is_refused(raw: bytes) -> None:
    with pytest.raises(BrokenSegment):
        SegmentRows("t", raw)
