"""The spool's files: whole chunks only, exact resumption, back-pressure that always ends."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.spool import (
    HEADER,
    LIMIT_MIN_BYTES,
    Chunk,
    SpoolDamaged,
    SpoolOffset,
    SpoolReader,
    SpoolWriter,
    segment_path,
    segment_sizes,
)

# The smallest limit makes the smallest segments: 16 KiB.
LIMIT = LIMIT_MIN_BYTES


def put(writer: SpoolWriter, data: bytes, arrived_at: float = 1.5) -> bool:
    return writer.append(memoryview(bytearray(HEADER.size) + data), arrived_at)


def read_all(directory: Path, offset: SpoolOffset, max_bytes: int = 1024 * 1024) -> list[Chunk]:
    with SpoolReader(directory, offset) as reader:
        chunks: list[Chunk] = []
        while batch := reader.read(max_bytes):
            chunks += batch
        return chunks


def filled(directory: Path, parts: list[bytes]) -> SpoolWriter:
    writer = SpoolWriter(directory, 64 * LIMIT)
    for number, part in enumerate(parts):
        assert put(writer, part, float(number))
    writer.close()
    return writer


def test_chunks_come_back_with_their_times_across_segments(tmp_path: Path) -> None:
    parts = [bytes([number]) * 9_000 for number in range(20)]
    writer = SpoolWriter(tmp_path / "spool", LIMIT * 4)
    assert all(put(writer, part, float(number)) for number, part in enumerate(parts))
    assert len(segment_sizes(tmp_path / "spool")) > 2
    chunks = read_all(tmp_path / "spool", SpoolOffset())
    assert [chunk.data for chunk in chunks] == parts
    assert [chunk.arrived_at for chunk in chunks] == [float(number) for number in range(20)]
    assert writer.bytes_written == sum(map(len, parts))
    writer.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=4_000), min_size=1, max_size=25), st.integers(1, 9_000))
def test_reading_on_from_every_chunks_end_gives_exactly_the_rest(parts: list[bytes], max_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as root:
        directory = Path(root) / "spool"
        writer = SpoolWriter(directory, LIMIT)
        written = [part for part in parts if len(part) <= writer.room_bytes() and put(writer, part)]
        writer.close()
        chunks = read_all(directory, SpoolOffset(), max_bytes)
        assert [chunk.data for chunk in chunks] == written
        for number, chunk in enumerate(chunks, start=1):
            stored = SpoolOffset.parse(str(chunk.end))
            assert [later.data for later in read_all(directory, stored, max_bytes)] == written[number:]


def test_a_segment_cut_at_every_byte_gives_whole_chunks_and_then_continues(tmp_path: Path) -> None:
    parts = [b"a", b"bcd", b"\0" * 20, b"efgh"]
    filled(tmp_path, parts)
    path = segment_path(tmp_path, 0)
    whole = path.read_bytes()
    ends, end = [], 0
    for part in parts:
        end += HEADER.size + len(part)
        ends.append(end)
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        with SpoolReader(tmp_path) as reader:
            before = [chunk.data for chunk in reader.read()]
            assert before == parts[: sum(end <= size for end in ends)]
            path.write_bytes(whole)
            assert before + [chunk.data for chunk in reader.read()] == parts
            assert reader.torn_bytes == 0


def test_what_a_dead_writer_left_half_written_is_stepped_over_and_counted(tmp_path: Path) -> None:
    filled(tmp_path, [b"before", b"torn away"])
    path = segment_path(tmp_path, 0)
    path.write_bytes(path.read_bytes()[:-4])
    with SpoolReader(tmp_path) as reader:
        assert [chunk.data for chunk in reader.read()] == [b"before"]
        successor = SpoolWriter(tmp_path, LIMIT)
        put(successor, b"after")
        successor.close()
        assert [chunk.data for chunk in reader.read()] == [b"after"]
        assert reader.torn_bytes == HEADER.size + len(b"torn away") - 4


def test_zeros_after_a_host_crash_are_no_chunks(tmp_path: Path) -> None:
    filled(tmp_path, [b"before"])
    with segment_path(tmp_path, 0).open("ab") as segment:
        segment.write(bytes(100))
    with SpoolReader(tmp_path) as reader:
        assert [chunk.data for chunk in reader.read()] == [b"before"]
        assert reader.read() == []


def test_a_chunk_larger_than_asked_for_is_still_read(tmp_path: Path) -> None:
    filled(tmp_path, [b"x" * 5_000, b"y"])
    with SpoolReader(tmp_path) as reader:
        assert [chunk.data for chunk in reader.read(10)] == [b"x" * 5_000]
        assert [chunk.data for chunk in reader.read(10)] == [b"y"]


def test_the_end_is_reached_only_with_the_marker_and_everything_read(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, LIMIT)
    put(writer, b"last words")
    with SpoolReader(tmp_path) as reader:
        assert not reader.at_end()
        assert writer.finish("ended")
        assert reader.end_reason() == "ended"
        assert not reader.at_end()
        assert len(reader.read()) == 1
        assert reader.at_end()


def test_a_stream_that_said_nothing_ends_too(tmp_path: Path) -> None:
    assert SpoolWriter(tmp_path, LIMIT).finish("shut")
    with SpoolReader(tmp_path) as reader:
        assert reader.read() == []
        assert reader.at_end()


def test_a_spool_held_again_goes_on_after_its_end(tmp_path: Path) -> None:
    first = SpoolWriter(tmp_path, LIMIT)
    put(first, b"first")
    first.finish("cut")
    second = SpoolWriter(tmp_path, LIMIT)
    with SpoolReader(tmp_path) as reader:
        put(second, b"second")
        assert [chunk.data for chunk in reader.read()] == [b"first", b"second"]
        assert not reader.at_end()
    second.close()


@pytest.mark.parametrize("size", [1, 700, 5_000, LIMIT])
def test_a_full_spool_takes_more_once_the_reader_has_deleted(tmp_path: Path, size: int) -> None:
    writer = SpoolWriter(tmp_path, LIMIT)
    written = 0
    with SpoolReader(tmp_path) as reader:
        for _round in range(4):
            while room := writer.room_bytes():
                assert put(writer, b"x" * min(room, size))
                written += min(room, size)
            assert sum(segment_sizes(tmp_path).values()) <= LIMIT
            while reader.read(3_000):
                reader.delete_before(reader.offset)
            assert writer.room_bytes() > 0
    assert written == writer.bytes_written > 2 * LIMIT // HEADER.size
    writer.close()


def test_a_limit_too_small_for_segments_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too small to hold several segments"):
        SpoolWriter(tmp_path, LIMIT_MIN_BYTES - 1)


def test_a_chunk_the_disk_refused_is_kept_and_the_end_comes_after_it(tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    writer = SpoolWriter(directory, LIMIT)
    shutil.rmtree(directory)
    assert not put(writer, b"kept")
    assert writer.stalled is not None
    assert writer.room_bytes() == 0
    assert not writer.finish("ended")
    assert writer.ended is None
    directory.mkdir()
    assert writer.retry()
    with SpoolReader(directory) as reader:
        assert [chunk.data for chunk in reader.read()] == [b"kept"]
        assert reader.at_end()


def test_an_offset_whose_segment_is_gone_is_reported(tmp_path: Path) -> None:
    filled(tmp_path, [b"one"])
    segment_path(tmp_path, 0).rename(segment_path(tmp_path, 3))
    with SpoolReader(tmp_path) as reader, pytest.raises(SpoolDamaged, match="read on from 3:0"):
        reader.read()


def test_a_reader_may_come_before_the_spool(tmp_path: Path) -> None:
    with SpoolReader(tmp_path / "later") as reader:
        assert reader.read() == []
        assert not reader.at_end()
        filled(tmp_path / "later", [b"now"])
        assert [chunk.data for chunk in reader.read()] == [b"now"]


@pytest.mark.parametrize("text", ["", "3", "3:", "a:b", "1:2:3"])
def test_an_offset_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        SpoolOffset.parse(text)
