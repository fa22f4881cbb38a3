"""Journal rows as text, ndjson, SSE and raw bytes: what was printed is what is read, cut anywhere."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.rendering import FORMATS, Row, TextRenderer, sse_event, streams_named
from orchestrator import journal
from orchestrator.models import Kind, Record

AT = datetime(2026, 1, 29, 12, 0, 0, 250, tzinfo=UTC)
AT_TEXT = "2026-01-29T12:00:00.000250Z"
PIECE = journal.PIECE_BYTES


def output_row(data: bytes, *, first_seq: int = 1, stream: str = "stdout", attempt: int = 1) -> Row:
    size = journal.output(stream, data, AT).size
    return Row(Record(7, "t", attempt, first_seq, first_seq + size - 1, AT, Kind.OUTPUT, stream, {}, data))


def other_row(kind: Kind, body: dict[str, Any], *, seq: int = 9) -> Row:
    stream = "system" if kind is Kind.SYSTEM else None
    return Row(Record(7, "t", 2, seq, seq, AT, kind, stream, body, None))


def rows_of(chunks: list[bytes]) -> list[Row]:
    rows: list[Row] = []
    for data in chunks:
        rows.append(output_row(data, first_seq=rows[-1].record.last_seq + 1 if rows else 1))
    return rows


def objects(ndjson: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ndjson.split(b"\n") if line]


def events(sse: bytes) -> list[tuple[int, str, dict[str, Any]]]:
    """What a strict reader of SSE makes of it: every event has exactly these three lines."""
    found = []
    for block in sse.decode().split("\n\n")[:-1]:
        cursor, name, data = block.split("\n")
        event = (cursor.removeprefix("id: "), name.removeprefix("event: "), data.removeprefix("data: "))
        found.append((int(event[0]), event[1], json.loads(event[2])))
    return found


STATE_CHANGE = other_row(
    Kind.STATE_CHANGE, {"previous_state": "running", "new_state": "completing", "state_message": "stopping"}
)
ENDED = other_row(Kind.STATE_CHANGE, {"previous_state": "completing", "new_state": "failed", "state_message": None})
SYSTEM = other_row(Kind.SYSTEM, {"message": "cloning"})
GAP = other_row(Kind.GAP, {"dropped_bytes": 12, "message": "12 bytes were dropped"})
ARTIFACT = other_row(Kind.ARTIFACT, {"artifact": {"path": "out/a.txt", "size_bytes": 3}})
EVENT = other_row(Kind.EVENT, {"tool": "Bash"})


@given(data=st.binary(max_size=400))
def test_pieces_are_the_lines_and_lose_nothing(data: bytes) -> None:
    pieces = journal.pieces(data)
    assert b"".join(pieces) == data
    assert all(piece and b"\n" not in piece[:-1] for piece in pieces)
    assert all(piece.endswith(b"\n") for piece in pieces[:-1])


@pytest.mark.parametrize("length", [PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_long_line_comes_in_pieces_of_at_most_64_kib(length: int, end: bytes) -> None:
    data = b"first\n" + b"x" * length + end + b"last"
    pieces = journal.pieces(data)
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= PIECE
    assert len(pieces) == journal.output("stdout", data, AT).size


@pytest.mark.parametrize("character", ["é", "€", "🦊"])
@pytest.mark.parametrize("shift", range(4))
def test_a_piece_never_ends_within_a_character(character: str, shift: int) -> None:
    data = b"x" * shift + character.encode() * PIECE
    pieces = journal.pieces(data)
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= PIECE
    assert "".join(piece.decode() for piece in pieces).encode() == data  # a cut character would not decode


def test_bytes_that_are_no_utf_8_are_cut_all_the_same() -> None:
    for data in (b"\x80" * (2 * PIECE + 5), b"\xff" * (PIECE + 1), b"a" * (PIECE - 1) + b"\xf0" * 9):
        pieces = journal.pieces(data)
        assert b"".join(pieces) == data
        assert max(map(len, pieces)) <= PIECE


@given(chunks=st.lists(st.binary(min_size=1, max_size=60), max_size=8))
def test_every_line_has_a_sequence_number_of_its_own_without_gaps(chunks: list[bytes]) -> None:
    rows = rows_of(chunks)
    numbers = [line["seq"] for row in rows for line in objects(row.render("ndjson", "all", 0))]
    assert numbers == list(range(1, len(numbers) + 1))
    assert not rows or rows[-1].record.last_seq == len(numbers)


@given(text=st.text(min_size=1, max_size=200))
def test_the_joined_data_of_ndjson_is_the_stream(text: str) -> None:
    row = output_row(text.encode())
    assert "".join(line["data"] for line in objects(row.render("ndjson", "stdout", 0))) == text


def test_control_characters_and_every_unicode_line_end_stay_data() -> None:
    text = '\x00,\x00 \r \x0b \x0c \x85 \u2028 \u2029 " \\ \r\n,\x00,\n'
    row, lines = output_row(text.encode()), [part + "\n" for part in text.split("\n")[:-1]]
    assert [line["data"] for line in objects(row.render("ndjson", "all", 0))] == lines
    assert [data["data"] for _, _, data in events(row.render("sse", "all", 0))] == lines


@given(data=st.binary(min_size=1, max_size=200))
def test_raw_is_exact_and_the_other_forms_replace_what_is_no_utf_8(data: bytes) -> None:
    row = output_row(data)
    assert row.render("raw", "stdout", 0) == data
    expected = "".join(piece.decode("utf-8", "replace") for piece in journal.pieces(data))
    assert "".join(line["data"] for line in objects(row.render("ndjson", "stdout", 0))) == expected


@given(data=st.binary(min_size=1, max_size=120), first_seq=st.integers(1, 10**12))
def test_a_reader_cut_after_any_line_resumes_with_nothing_lost_and_nothing_twice(data: bytes, first_seq: int) -> None:
    row = output_row(data, first_seq=first_seq)
    record = row.record
    whole_events, whole_objects = events(row.render("sse", "all", 0)), objects(row.render("ndjson", "all", 0))
    for cursor in range(first_seq - 1, record.last_seq + 1):
        behind = [one for one in whole_events if one[0] > cursor]
        assert events(row.render("sse", "all", cursor)) == behind
        assert objects(row.render("ndjson", "all", cursor)) == [one for one in whole_objects if one["seq"] > cursor]
        assert row.render("raw", "stdout", cursor) == b"".join(journal.pieces(data)[cursor - first_seq + 1 :])


def test_a_row_is_rendered_once_and_a_part_of_it_is_not_kept() -> None:
    row = output_row(b"a\nb\n", first_seq=5)
    assert row.render("ndjson", "all", 0) is row.render("ndjson", "all", 4)
    assert [one["seq"] for one in objects(row.render("ndjson", "all", 5))] == [6]
    assert [one["seq"] for one in objects(row.render("ndjson", "all", 0))] == [5, 6]


def test_an_output_line_carries_the_fields_of_the_contract() -> None:
    row = output_row(b"hello\n", first_seq=3, stream="stderr")
    expected = {"seq": 3, "timestamp": AT_TEXT, "stream": "stderr", "data": "hello\n"}
    assert objects(row.render("ndjson", "all", 0)) == [expected]
    assert events(row.render("sse", "all", 0)) == [(3, "stderr", expected)]


@pytest.mark.parametrize(
    ("row", "name", "fields"),
    [
        (SYSTEM, "system", {"stream": "system", "data": "cloning\n"}),
        (GAP, "gap", {"stream": "gap", "attempt": 2, "dropped_bytes": 12, "message": "12 bytes were dropped"}),
        (
            STATE_CHANGE,
            "event",
            {
                "stream": "event", "type": "state_change", "attempt": 2, "previous_state": "running",
                "new_state": "completing", "state_message": "stopping",
            },
        ),
        (
            ARTIFACT,
            "event",
            {"stream": "event", "type": "artifact", "attempt": 2, "artifact": {"path": "out/a.txt", "size_bytes": 3}},
        ),
        (EVENT, "event", {"stream": "event", "type": "event", "attempt": 2, "tool": "Bash"}),
    ],
)  # fmt: skip
def test_what_is_no_output_has_its_form_too(row: Row, name: str, fields: dict[str, Any]) -> None:
    expected = {"seq": 9, "timestamp": AT_TEXT, **fields}
    assert objects(row.render("ndjson", "all", 0)) == [expected]
    assert events(row.render("sse", "all", 0)) == [(9, name, expected)]
    assert row.render("raw", "all", 0) == b""


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (SYSTEM, "[SYSTEM] cloning"),
        (GAP, "[SYSTEM] gap: 12 bytes were dropped"),
        (STATE_CHANGE, "[EVENT] completing: stopping"),
        (ENDED, "[EVENT] failed"),
        (ARTIFACT, "[EVENT] artifact out/a.txt (3 bytes)"),
        (EVENT, '[EVENT] {"tool": "Bash"}'),
    ],
)
def test_text_says_it_in_words(row: Row, words: str) -> None:
    assert TextRenderer("all").render(row, 0).decode() == f"[{AT_TEXT}] {words}\n"


def test_an_event_is_three_lines_and_a_blank_one() -> None:
    assert sse_event("end", 4, {"state": "é\n"}) == 'id: 4\nevent: end\ndata: {"state": "é\\n"}\n\n'.encode()


@pytest.mark.parametrize(
    ("stream", "shown"),
    [
        ("all", {"stdout", "stderr", "SYSTEM", "GAP", "STATE", "ARTIFACT", "EVENT"}),
        ("stdout", {"stdout", "GAP"}),
        ("stderr", {"stderr", "GAP"}),
        ("events", {"GAP", "STATE", "ARTIFACT", "EVENT"}),
        ("system", {"GAP", "SYSTEM"}),
        ("stdout,stderr", {"stdout", "stderr", "GAP"}),
        ("stderr,events,system", {"stderr", "GAP", "STATE", "ARTIFACT", "EVENT", "SYSTEM"}),
    ],
)
def test_the_stream_filter_shows_what_it_names_and_never_hides_a_gap(stream: str, shown: set[str]) -> None:
    rows = {
        "stdout": output_row(b"o\n"), "stderr": output_row(b"e\n", stream="stderr"), "SYSTEM": SYSTEM, "GAP": GAP,
        "STATE": STATE_CHANGE, "ARTIFACT": ARTIFACT, "EVENT": EVENT,
    }  # fmt: skip
    assert streams_named(stream) == stream
    for form in ("ndjson", "sse"):
        assert form in FORMATS
        assert {name for name, row in rows.items() if row.render(form, stream, 0)} == shown
    assert {name for name, row in rows.items() if TextRenderer(stream).render(row, 0)} == shown


@pytest.mark.parametrize(
    ("asked", "spelled"),
    [
        ("all", "all"),
        ("events,stdout", "stdout,events"),
        ("system, stderr,system", "stderr,system"),
        ("system,events,stderr,stdout", "all"),
    ],
)
def test_streams_have_one_spelling_so_that_readers_share_what_is_rendered(asked: str, spelled: str) -> None:
    assert streams_named(asked) == spelled


@pytest.mark.parametrize("asked", ["", "stdin", "all,stdout", "stdout,", "ALL", "stdout;stderr"])
def test_what_is_no_stream_is_refused(asked: str) -> None:
    with pytest.raises(ValueError, match="is no stream"):
        streams_named(asked)


def test_an_agents_events_are_lines_of_the_text_form_each_with_its_head() -> None:
    row = other_row(Kind.EVENT, {"type": "message", "text": "one\n\x1b[2Jtwo\n"})
    assert TextRenderer("events").render(row, 0).decode().splitlines() == [
        f"[{AT_TEXT}] [EVENT] one",
        f"[{AT_TEXT}] [EVENT] \\x1b[2Jtwo",
    ]


def test_what_an_agent_said_counts_in_what_is_kept_for_followers() -> None:
    assert other_row(Kind.EVENT, {"type": "message", "text": "x" * 5000}).size_bytes > 5000


def test_only_a_terminal_state_change_ends_a_log() -> None:
    assert ENDED.ends
    assert not any(row.ends for row in (STATE_CHANGE, SYSTEM, GAP, ARTIFACT, EVENT, output_row(b"x")))


def text_of(rows: list[Row], stream: str = "all") -> bytes:
    renderer = TextRenderer(stream)
    return b"".join([renderer.render(row, 0) for row in rows]) + renderer.rest()


@given(text=st.text(max_size=120), cuts=st.lists(st.integers(0, 200), max_size=6))
def test_text_has_one_line_for_each_line_printed_however_it_was_cut(text: str, cuts: list[int]) -> None:
    data = text.encode()
    edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    rows = rows_of([data[start:end] for start, end in pairwise(edges)])
    lines = data.split(b"\n")
    expected = lines[:-1] if lines[-1] == b"" else lines
    assert text_of(rows) == b"".join(f"[{AT_TEXT}] [STDOUT] ".encode() + line + b"\n" for line in expected)


def test_text_puts_the_pieces_of_each_stream_together_apart() -> None:
    rows = [
        output_row(b"out-", first_seq=1),
        output_row(b"err-", first_seq=2, stream="stderr"),
        output_row(b"1\n", first_seq=3),
        output_row(b"2\n", first_seq=4, stream="stderr"),
    ]
    assert text_of(rows).decode() == f"[{AT_TEXT}] [STDOUT] out-1\n[{AT_TEXT}] [STDERR] err-2\n"


def test_a_line_longer_than_64_kib_is_delivered_in_lines_of_its_own_and_complete() -> None:
    data = b"x" * (2 * PIECE + 10) + b"\n"
    lines = text_of([output_row(data)]).decode().split("\n")
    assert "".join(re.sub(r"^\[[^]]*\] \[STDOUT\] ", "", line) for line in lines) == data.decode().strip()
    assert max(map(len, lines)) < 2 * PIECE + 100


def test_what_one_attempt_left_unfinished_is_not_the_beginning_of_the_next_ones_line() -> None:
    renderer = TextRenderer("all")
    renderer.render(output_row(b"one", attempt=1), 0)
    text = renderer.render(output_row(b"two\n", first_seq=2, attempt=2), 0)
    assert text.endswith(b"[STDOUT] two\n")
    assert renderer.rest().endswith(b"[STDOUT] one\n")
