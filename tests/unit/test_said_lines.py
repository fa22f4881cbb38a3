"""What a command says of itself is taken, each line whole and once; what is malformed is told, and bounded."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.said_lines import (
    MAX_OUTPUTS,
    MAX_OUTPUTS_BYTES,
    MAX_TEXT_CHARACTERS,
    MAX_VALUE_BYTES,
    MOST_OUTPUT,
    SaidLines,
)

AT = datetime(2026, 1, 29, 12, 0, 0, tzinfo=UTC)


def progress_of(*printed: bytes) -> tuple[float, str | None] | None:
    said = SaidLines()
    assert [told for data in printed for told in said.take("stdout", data, AT)] == []
    newest, outputs = said.news()
    assert outputs is None
    return (newest.percent, newest.text) if newest is not None else None


def outputs_of(*printed: bytes) -> dict[str, str]:
    said = SaidLines()
    assert [told for data in printed for told in said.take("stdout", data, AT)] == []
    return dict(said.outputs)


def refused(line: bytes, said: SaidLines | None = None) -> str:
    said = said or SaidLines()
    [told] = said.take("stderr", line, AT)
    assert not said.has_news
    return told


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"::progress 40 compiling\n", (40, "compiling")),
        (b"::progress 40\n", (40, None)),
        (b"::progress\t40\t two  words \t\n", (40, "two  words")),
        (b"::progress 0\r\n", (0, None)),
        (b"::progress 100 done\r\n", (100, "done")),
        (b"::progress 33.333333333333336 a third\n", (33.33, "a third")),
        (b"::progress 007.50 %\n", (7.5, "%")),
        (b"::progress 1 \xe2\x82\xac \xff\n", (1, "€ \N{REPLACEMENT CHARACTER}")),
        (b"::progress 1 \x1b[31mred\x1b[0m\x00\x07\x9b bell\n", (1, "red\N{REPLACEMENT CHARACTER} bell")),
        (b"::progress 1 " + b"x" * MAX_TEXT_CHARACTERS + b"\n", (1, "x" * MAX_TEXT_CHARACTERS)),
        (b"::progress 1 " + "é".encode() * MAX_TEXT_CHARACTERS + b"\n", (1, "é" * MAX_TEXT_CHARACTERS)),
        (b"one\n::progress 1\n::progress 2 second\ntwo\n", (2, "second")),
        (b"::progress 1 text\n::progress 2\n", (2, None)),
    ],
)
def test_progress_is_a_number_and_perhaps_a_text(line: bytes, expected: tuple[float, str | None]) -> None:
    assert progress_of(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        b"::progress 101 too much\n",
        b"::progress 100.01\n",
        b"::progress -1\n",
        b"::progress 1e2\n",
        b"::progress .5\n",
        b"::progress 5.\n",
        b"::progress 50% half\n",
        b"::progress half\n",
        b"::progress\n",
        b"::progress \r\n",
        b"::progress nan\n",
        "::progress ٤٠\n".encode(),
        b"::progress 1." + b"0" * 1000 + b"\n",
        b"::progress 1 " + b"x" * (MAX_TEXT_CHARACTERS + 1) + b"\n",
    ],
)
def test_progress_of_another_form_is_refused_with_the_form(line: bytes) -> None:
    told = refused(line)
    assert told.startswith("the line `::progress")
    assert "the form is `::progress 40 text`" in told
    assert len(told) < 400


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"::output image=registry/app:1.2\n", {"image": "registry/app:1.2"}),
        (b"::output a=\n", {"a": ""}),
        (b"::output  a= b = c \n", {"a": " b = c "}),
        (b"::output _A.b-9=x\r\n", {"_A.b-9": "x"}),
        (b"::output a=1\n::output b=2\n::output a=3\n", {"a": "3", "b": "2"}),
        (b"::output a=\xff\x00\xe2\x82\xac\n", {"a": "\N{REPLACEMENT CHARACTER}" * 2 + "€"}),
        (b"::output " + b"k" * 128 + b"=v\n", {"k" * 128: "v"}),
        (b"::output a=" + b"v" * MAX_VALUE_BYTES + b"\n", {"a": "v" * MAX_VALUE_BYTES}),
    ],
)
def test_an_output_is_a_key_and_what_follows_the_first_equals_sign(line: bytes, expected: dict[str, str]) -> None:
    assert outputs_of(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        b"::output\n",
        b"::output key\n",
        b"::output =value\n",
        b"::output 1a=value\n",
        b"::output a b=value\n",
        b"::output a =value\n",
        "::output ä=value\n".encode(),
        b"::output " + b"k" * 129 + b"=v\n",
        b"::output a=" + b"v" * (MAX_VALUE_BYTES + 1) + b"\n",
    ],
)
def test_an_output_of_another_form_is_refused_with_the_form(line: bytes) -> None:
    told = refused(line)
    assert told.startswith("the line `::output")
    assert "the form is `::output key=value`" in told
    assert len(told) < 500


@pytest.mark.parametrize(
    "printed",
    [
        b"::progressive 40\n", b"::outputs a=b\n", b" ::progress 40\n", b"x ::output a=b\n", b":: progress 40\n",
        b"::progress::40\n", b"::set-output a=b\n", b"::PROGRESS 40\n", b"\r::progress 40\n", b"::progress 40",
        b"::output a=b", b"",
    ],
)  # fmt: skip
def test_what_only_looks_like_it_is_the_command_s_own(printed: bytes) -> None:
    said = SaidLines()
    assert said.take("stdout", printed, AT) == []
    assert not said.has_news


@pytest.mark.parametrize(
    ("pieces", "percent"),
    [
        ((b"::prog", b"ress 1\n"), 1),
        ((b":", b":progress", b" ", b"2", b"\n::progress 3\n"), 3),
        ((b"::progress 4\nx", b"::progress 5\n"), 4),
        ((b"::progress 6\n::prog", b"nosis ", b"::progress 7\n"), 6),
        ((b"::progress 8", b"", b"\r\n"), 8),
    ],
)
def test_a_line_delivered_in_pieces_is_one_line(pieces: tuple[bytes, ...], percent: float) -> None:
    assert progress_of(*pieces) == (percent, None)


def test_an_endless_line_in_pieces_is_refused_once_and_not_kept() -> None:
    said = SaidLines()
    told = said.take("stdout", b"::output key=", AT)
    for _ in range(40):
        told += said.take("stdout", b"x" * 1024, AT)
    assert len(told) == 1
    assert "the form is `::output key=value`" in told[0]
    assert len(json.dumps(said.dump())) < 100
    assert said.take("stdout", b"\n::output key=1\n", AT) == []
    assert said.outputs == {"key": "1"}


def test_what_a_worker_noted_before_lines_in_pieces_were_read_is_known_to_one_that_reads_them() -> None:
    said = SaidLines({"begun": ["stdout"]})
    said.take("stdout", b"::progress 1\n", AT)
    assert not said.has_news
    said.take("stdout", b"::progress 2\n", AT)
    assert said.has_news


def test_the_next_worker_knows_that_the_beginning_of_a_line_was_delivered() -> None:
    said = SaidLines()
    said.take("stdout", b"the beginning: ", AT)
    again = SaidLines(said.dump())
    again.take("stdout", b"::progress 1\n", AT)
    assert not again.has_news
    assert again.dump() == {}


def test_the_beginning_of_a_line_on_one_stream_is_not_one_on_the_other() -> None:
    said = SaidLines()
    said.take("stdout", b"half a line", AT)
    said.take("stderr", b"::progress 1\n", AT)
    assert said.has_news


def test_behind_a_gap_what_follows_may_be_the_end_of_a_line() -> None:
    said = SaidLines()
    said.sever()
    said.take("stdout", b"::progress 1\n", AT)
    said.take("stderr", b"::progress 1\n", AT)
    assert not said.has_news
    said.take("stderr", b"::progress 2\n", AT)
    assert said.has_news


def test_each_kind_of_mistake_is_told_once_also_by_the_next_worker() -> None:
    said = SaidLines()
    flood = b"::progress x\n::output x\n" * 1000
    first = said.take("stdout", flood, AT)
    assert len(first) == 2
    assert said.take("stderr", flood, AT) == []
    again = SaidLines(said.dump())
    assert again.take("stdout", flood, AT) == []
    [told] = again.take("stdout", b"".join(b"::output k%d=v\n" % number for number in range(MAX_OUTPUTS + 9)), AT)
    assert f"`::output k{MAX_OUTPUTS}=v` was not taken: a task has at most {MAX_OUTPUTS} outputs" in told
    assert len(again.outputs) == MAX_OUTPUTS


def test_a_mistake_is_quoted_without_what_would_move_a_terminal_and_not_at_length() -> None:
    told = refused(b"::progress \x1b[2Jx\x00\x07" + b"y" * 100_000 + b"\n")
    assert told.startswith("the line `::progress xyyyy")
    assert "…" in told
    assert told.isprintable()
    assert len(told) < 400


def test_outputs_are_bounded_together_and_a_shorter_value_makes_room() -> None:
    said = SaidLines()
    value = b"v" * (MAX_VALUE_BYTES - 1)
    eight = b"".join(b"::output %c=%b\n" % (letter, value) for letter in b"abcdefgh")
    assert said.take("stdout", eight, AT) == []
    assert sum(len(key) + len(text) for key, text in said.outputs.items()) == MAX_OUTPUTS_BYTES
    said.news()
    [told] = said.take("stdout", b"::output i=\n", AT)
    assert "64 KiB together" in told
    assert not said.has_news
    assert said.take("stdout", b"::output a=short\n::output i=" + b"w" * 100 + b"\n", AT) == []
    assert (said.outputs["a"], said.outputs["i"]) == ("short", "w" * 100)
    known = SaidLines()
    known.know(None, None, said.outputs)
    assert len(known.take("stdout", b"::output j=" + value + b"\n", AT)) == 1


def test_what_is_stored_already_is_no_news() -> None:
    said = SaidLines()
    said.know(40, "compiling", {"a": "1"})
    said.take("stdout", b"::progress 40 compiling\n::output a=1\n", AT)
    assert said.news() == (None, None)
    said.take("stdout", b"::progress 40 linking\n::output a=2\n", AT)
    newest, outputs = said.news()
    assert newest is not None
    assert (newest.text, outputs) == ("linking", {"a": "2"})
    assert not said.has_news
    assert said.news() == (None, None)


WORDS = st.sampled_from(
    [b"::progress 1\n", b"::progress 99.5 some text\r\n", b"::output a=1\n", b"::output b=::progress 3\n", b"\n", b"::",
     b"progress 7\n", b"other words\n", b"::progress x\n", b"::output", b" c=4\n", b"\xff\n"]
)  # fmt: skip


@given(words=st.lists(WORDS, max_size=20), cut=st.integers(1, 40))
def test_however_lines_are_cut_the_same_is_taken_by_any_row_of_workers(words: list[bytes], cut: int) -> None:
    """After each piece another worker goes on from what was stored."""
    printed = b"".join([*words, b"\n"])
    once = SaidLines()
    told = once.take("stdout", printed, AT)
    in_pieces: list[str] = []
    stored: dict[str, Any] = {"dump": {}, "progress": None, "outputs": {}}
    for at in range(0, len(printed), cut):
        life = SaidLines(stored["dump"])
        newest = stored["progress"]
        life.know(newest and newest.percent, newest and newest.text, stored["outputs"])
        in_pieces += life.take("stdout", printed[at : at + cut], AT)
        progress, outputs = life.news()
        stored = {
            "dump": life.dump(),
            "progress": progress or newest,
            "outputs": stored["outputs"] if outputs is None else dict(outputs),
        }
    progress, outputs = once.news()
    assert sorted(in_pieces) == sorted(told)
    assert stored["progress"] == progress
    assert stored["outputs"] == dict(outputs or {})


def test_what_is_not_stored_yet_is_noted_and_known_to_the_next_worker() -> None:
    first = SaidLines()
    first.take("stdout", b"::output a=1\n::output b=2\n", AT)
    first.news()
    first.take("stdout", b"::output b=3\n::progress 40 on the way\n", AT)
    second = SaidLines(json.loads(json.dumps(first.dump())))
    second.know(None, None, {"a": "1", "b": "2"})
    assert second.has_news
    newest, outputs = second.news()
    assert newest is not None
    assert (newest.percent, newest.text, newest.at) == (40, "on the way", AT)
    assert outputs == {"a": "1", "b": "3"}
    assert "outputs" not in second.dump()


def test_of_a_flood_the_last_lines_are_read_and_that_is_told_once() -> None:
    said = SaidLines()
    flood = b"".join(b"::output k=%d\n::progress %d\n" % (number, number % 100) for number in range(MOST_OUTPUT + 1))
    (told,) = said.take("stdout", flood, AT)
    assert "only the last are read" in told
    assert said.take("stdout", flood, AT) == []
    newest, outputs = said.news()
    assert newest is not None
    assert newest.percent == MOST_OUTPUT % 100
    assert outputs == {"k": str(MOST_OUTPUT)}
