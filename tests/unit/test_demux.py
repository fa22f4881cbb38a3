"""The attach stream's frames, cut anywhere."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.demux import Demultiplexer, FramesDamaged, Stream

NUMBERS: dict[Stream, int] = {"stdout": 1, "stderr": 2}
pieces_of_output = st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=40)), max_size=12)


def frames(pieces: list[tuple[Stream, bytes]]) -> bytes:
    return b"".join(struct.pack(">BxxxI", NUMBERS[stream], len(data)) + data for stream, data in pieces)


def joined(pieces: list[tuple[Stream, bytes]]) -> list[tuple[Stream, bytes]]:
    """Neighbours of one stream as one, empty ones left out: what a reader can observe."""
    result: list[tuple[Stream, bytes]] = []
    for stream, data in pieces:
        if result and result[-1][0] == stream:
            result[-1] = (stream, result[-1][1] + data)
        elif data:
            result.append((stream, data))
    return result


OUTPUT: list[tuple[Stream, bytes]] = [
    ("stdout", b"one\n"),
    ("stderr", b"\x01\x00\x00\x00\x00\x00\x00\x05"),
    ("stdout", b""),
    ("stderr", b"two"),
    ("stdout", b"three\r\n" * 3),
]


def test_whole_frames_keep_their_streams_and_their_order() -> None:
    assert Demultiplexer().feed(frames(OUTPUT)) == [piece for piece in OUTPUT if piece[1]]


@pytest.mark.parametrize("cut", range(len(frames(OUTPUT)) + 1))
def test_a_stream_resumes_from_its_stored_state_at_every_byte(cut: int) -> None:
    raw = frames(OUTPUT)
    first = Demultiplexer()
    before = first.feed(raw[:cut])
    state = first.state()
    after = Demultiplexer.from_state(state).feed(raw[cut:])
    assert joined(before + after) == joined(OUTPUT)
    assert joined(before + first.feed(raw[cut:])) == joined(OUTPUT)
    assert len(state) <= 32
    assert state.isascii()


@given(pieces_of_output, st.integers(min_value=1, max_value=9))
def test_chunks_of_any_size_give_the_same_output(pieces: list[tuple[Stream, bytes]], size: int) -> None:
    raw = frames(pieces)
    demultiplexer = Demultiplexer()
    got: list[tuple[Stream, bytes]] = []
    for at in range(0, len(raw), size):
        got += demultiplexer.feed(raw[at : at + size])
        demultiplexer = Demultiplexer.from_state(demultiplexer.state())
    assert joined(got) == joined(pieces)
    assert demultiplexer.state() == ""


def test_the_state_is_empty_only_between_frames() -> None:
    raw = frames([("stdout", b"ab")])
    demultiplexer = Demultiplexer()
    states = []
    for at in range(len(raw)):
        demultiplexer.feed(raw[at : at + 1])
        states.append(demultiplexer.state())
    assert [bool(state) for state in states] == [True] * 9 + [False]


def test_the_engines_own_error_text_is_read_as_stderr() -> None:
    assert Demultiplexer().feed(b"\x03\0\0\0\0\0\0\x04oops") == [("stderr", b"oops")]


@pytest.mark.parametrize("raw", [b"\x04\0\0\0\0\0\0\x01x", b"hello world\r\n", b"\x01\0\x01\0\0\0\0\x01x"])
def test_bytes_that_are_no_frame_are_refused(raw: bytes) -> None:
    with pytest.raises(FramesDamaged, match="no frame header"):
        Demultiplexer().feed(raw)


@pytest.mark.parametrize("state", ["stdin:4", "stdout:", "stdout:x", "header:0g", "stdout", "7"])
def test_a_state_that_is_none_of_ours_is_refused(state: str) -> None:
    with pytest.raises(FramesDamaged, match="cannot resume"):
        Demultiplexer.from_state(state)
