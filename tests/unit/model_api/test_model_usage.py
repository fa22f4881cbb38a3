"""What answers of the Messages API tell of their cost, however they are cut and whatever they hold (pure)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.model_api.api import MESSAGE, MODEL, event, start, stop, text
from workers.model_api import usage as usages
from workers.model_api.usage import AnswerReader, StreamReader, Usage

STREAM = (
    start(input_tokens=100, cache_creation_input_tokens=5, cache_read_input_tokens=10, output_tokens=1)
    + event("ping")
    + text("un événement: usage\n\ndata: {}")
    + stop(output_tokens=20)
)
WHOLE = Usage(100, 20, 10, 5, 0)


def read(*pieces: bytes) -> StreamReader:
    reader = StreamReader()
    for piece in pieces:
        reader.feed(piece)
    reader.finish()
    return reader


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=12).map(sorted), st.booleans())
def test_a_stream_tells_the_same_wherever_it_is_cut(places: list[int], has_carriage_returns: bool) -> None:
    cuts = zip([0, *places], [*places, len(STREAM)], strict=True)
    pieces = [STREAM[begin:end] for begin, end in cuts]
    if has_carriage_returns:
        pieces = [piece.replace(b"\n", b"\r\n") for piece in pieces]
    reader = read(*pieces)
    assert (reader.model, reader.usage, reader.is_whole, reader.has_failed) == (MODEL, WHOLE, True, False)


def test_the_last_word_counts_and_what_is_not_said_again_stays() -> None:
    reader = read(
        start(input_tokens=100, output_tokens=1), stop(output_tokens=5), stop(input_tokens=90, output_tokens=9)
    )
    assert reader.usage == Usage(90, 9)


def test_tokens_kept_for_an_hour_are_told_apart_and_never_more_than_were_written() -> None:
    kept = {"cache_creation_input_tokens": 10, "cache_creation": {"ephemeral_1h_input_tokens": 4}}
    assert usages.merged(Usage(), kept) == Usage(cache_write_tokens=10, cache_write_1h_tokens=4)
    kept["cache_creation"] = {"ephemeral_1h_input_tokens": 99}
    assert usages.merged(Usage(), kept).cache_write_1h_tokens == 10


def test_a_stream_that_breaks_off_is_charged_for_what_it_put_out() -> None:
    thought = event("content_block_delta", delta={"type": "thinking_delta", "thinking": "y" * 200})
    signed = event("content_block_delta", delta={"type": "signature_delta", "signature": "z" * 4000})
    reader = read(start(input_tokens=3, output_tokens=1), text("x" * 200), thought, signed)
    assert (reader.usage, reader.is_whole) == (Usage(3, 100), False)
    assert read(start(input_tokens=3, output_tokens=7), text("x")).usage == Usage(3, 7)


def test_an_event_in_several_lines_is_one_and_its_last_needs_no_empty_line_behind_it() -> None:
    reader = read(b'data: {"type": "message_delta",\ndata: "usage": {"output_tokens": 4}}')
    assert reader.usage == Usage(output_tokens=4)


def test_an_error_ends_a_stream() -> None:
    reader = read(event("error", error={"type": "overloaded_error"}))
    assert (reader.is_whole, reader.has_failed) == (True, True)


def test_an_event_that_is_too_long_is_not_held_and_the_next_is_read() -> None:
    reader = StreamReader()
    reader.feed(start(input_tokens=1))
    for piece in (b"data: {", *[b"x" * 65536] * 20, b"\n", b'data: {"type": "message_stop"}\n\n'):
        reader.feed(piece)
        assert len(reader._line) + len(reader._data) <= usages.MAX_EVENT_BYTES
    assert not reader.is_whole
    reader.feed(stop(output_tokens=2))
    assert (reader.usage, reader.is_whole) == (Usage(1, 2), True)


@pytest.mark.parametrize(
    "found",
    [
        None, 5, [], "usage", {}, {"input_tokens": None}, {"input_tokens": -1}, {"input_tokens": 1.5},
        {"input_tokens": True}, {"input_tokens": "9"}, {"input_tokens": 1 << 41}, {"cache_creation": 3},
        {"cache_creation": {"ephemeral_1h_input_tokens": []}},
    ],
)  # fmt: skip
def test_numbers_that_are_none_change_nothing(found: object) -> None:
    assert usages.merged(Usage(1, 2, 3, 4), found) == Usage(1, 2, 3, 4)
    assert read(
        start(input_tokens=1), b"data: " + json.dumps({"type": "message_delta", "usage": found}).encode()
    ).usage == Usage(1)


KEYS = st.sampled_from(["type", "usage", "message", "delta", "model", "input_tokens", "text"])
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner),
    max_leaves=8,
)
KINDS = st.sampled_from(["message_start", "content_block_delta", "message_delta", "message_stop", "error", "other"])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(KINDS, JSON, st.binary(max_size=10))))
def test_nothing_that_a_stream_or_an_answer_holds_raises(parts: list[tuple[str, object, bytes]]) -> None:
    said = b"".join(
        event(kind, message=value, usage=value, delta=value) + noise + b"data: " + json.dumps(value).encode() + b"\n\n"
        for kind, value, noise in parts
    )
    for reader in (StreamReader(), AnswerReader()):
        reader.feed(said)
        reader.finish()
        assert min(reader.usage.input_tokens, reader.usage.output_tokens) >= 0
        assert reader.model is None or isinstance(reader.model, str)


def test_deep_nesting_and_huge_numbers_are_passed_over() -> None:
    for body in (b"[" * 100_000, b'{"usage": {"input_tokens": ' + b"9" * 10_000 + b"}}", b"\xff\xfe"):
        answer = AnswerReader()
        answer.feed(body)
        answer.finish()
        assert (answer.usage, answer.is_whole, read(b"data: " + body).usage) == (Usage(), False, Usage())


def test_an_answer_is_read_at_its_end_and_one_that_is_too_long_is_not_held() -> None:
    answer = AnswerReader()
    for byte in MESSAGE:
        answer.feed(bytes([byte]))
    answer.finish()
    assert (answer.model, answer.usage, answer.is_whole) == (MODEL, Usage(7, 3), True)
    long = AnswerReader()
    for _ in range(100):
        long.feed(b" " * 65536)
        assert len(long._body) <= usages.MAX_JSON_BYTES
    long.feed(MESSAGE)
    long.finish()
    assert (long.usage, long.is_whole) == (Usage(), False)
