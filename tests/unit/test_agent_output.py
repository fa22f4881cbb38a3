"""An agent's stream is kept byte for byte and told line by line, wherever it is cut and whoever goes on with it."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.models import Kind, Question
from workers import agent_output
from workers.agent_output import AgentOutput, last_lines
from workers.agents.port import AgentEvent, Seen, Told

AT = datetime(2026, 1, 1, tzinfo=UTC)
LIMIT = 1 << 30


class Lines:
    """A reader that tells each line as an event, and asks what begins with `?`."""

    def __init__(self, *, shows_lines: bool = True, turns: int = 0) -> None:
        self.seen = Seen(turns=turns)
        self.shows_lines = shows_lines

    def read(self, line: bytes, at: float) -> Told:
        assert at == AT.timestamp()
        text = line.decode(errors="replace")
        self.seen = replace(self.seen, turns=self.seen.turns + 1)
        asked = [Question(text, AT, "question", text)] if text.startswith("?") else []
        return Told([AgentEvent("line", {"text": text})], asked, shown=f"<{text}>".encode())


def output(file: Path, reader: Lines | None = None, size_bytes: int = 0, limit_bytes: int = LIMIT) -> AgentOutput:
    return AgentOutput(reader or Lines(), file, size_bytes, limit_bytes)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.lists(st.binary(max_size=12), max_size=8), st.data())
def test_however_it_is_cut_and_taken_up_each_line_is_told_once_and_all_bytes_are_kept(
    tmp_path: Path, lines: list[bytes], data: st.DataObject
) -> None:
    file = tmp_path / "stream"
    file.unlink(missing_ok=True)
    whole = b"\n".join(lines)
    told, shown, at, known, size = [], b"", 0, 0, 0
    while at < len(whole):
        taking = output(file, Lines(turns=known), size)  # another worker, which knows what was stored
        for _ in range(data.draw(st.integers(1, 3))):
            piece = whole[at : at + data.draw(st.integers(1, 9))]
            heard = taking.take(piece, AT)
            told += [one.body["text"] for one in heard.records]
            shown += heard.shown
            at += len(piece)
        known, size = taking.seen["turns"], taking.size_bytes
        with file.open("ab") as torn:  # what it added without having it stored
            torn.write(data.draw(st.binary(max_size=5)))
    last = output(file, Lines(turns=known), size)
    told += [one.body["text"] for one in last.finish(AT).records]
    expected = [one.decode(errors="replace") for one in whole.split(b"\n")]
    assert told == (expected if expected[-1] else expected[:-1])
    assert shown == whole
    assert (file.read_bytes() if whole else b"") == whole


def test_where_lines_are_not_shown_as_they_are_what_the_reader_says_stands_for_them(tmp_path: Path) -> None:
    taking = output(tmp_path / "stream", Lines(shows_lines=False))
    assert taking.take(b"one\ntw", AT).shown == b"<one>"
    assert taking.take(b"o\n", AT).shown == b"<two>"
    assert (tmp_path / "stream").read_bytes() == b"one\ntwo\n"


def test_questions_are_handed_on(tmp_path: Path) -> None:
    heard = output(tmp_path / "stream").take(b"?which\n", AT)
    assert [one.id for one in heard.asked] == ["?which"]


def test_what_is_known_is_given_for_storing_only_when_it_changed(tmp_path: Path) -> None:
    taking = output(tmp_path / "stream")
    assert taking.changes() is not None
    taking.take(b"no line yet", AT)
    assert taking.changes() is None
    taking.take(b"\n", AT)
    changed = taking.changes()
    assert changed is not None
    assert changed["turns"] == 1
    json.dumps(changed)


def test_a_line_without_an_end_is_bounded_and_the_next_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_output, "MAX_LINE_BYTES", 100)
    taking = output(tmp_path / "stream")
    heard = taking.take(b"x" * 150, AT)
    assert [one.kind for one in heard.records] == [Kind.SYSTEM]
    assert "was not read" in heard.records[0].body["message"]
    heard = taking.take(b"x" * 500 + b"\nnext\n", AT)
    assert [one.body.get("text") for one in heard.records] == ["next"]
    assert (tmp_path / "stream").stat().st_size == 656


def test_beyond_the_limit_the_file_ends_and_the_reader_goes_on(tmp_path: Path) -> None:
    taking = output(tmp_path / "stream", limit_bytes=6)
    heard = taking.take(b"one\ntwo\n", AT)
    assert [one.kind for one in heard.records] == [Kind.GAP, Kind.EVENT, Kind.EVENT]
    assert "larger than the limit" in heard.records[0].body["message"]
    assert [one.kind for one in taking.take(b"three\n", AT).records] == [Kind.EVENT]
    assert (tmp_path / "stream").read_bytes() == b"one\ntw"


def test_a_full_disk_costs_the_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    taking = output(tmp_path / "stream")
    monkeypatch.setattr(os, "write", full)
    heard = taking.take(b"one\n", AT)
    monkeypatch.undo()
    assert [one.kind for one in heard.records] == [Kind.GAP, Kind.EVENT]
    assert heard.shown == b"one\n"


def test_what_ends_a_file_that_is_not_whole_is_not_put_in_front_of_the_next_line(tmp_path: Path) -> None:
    taking = output(tmp_path / "stream", limit_bytes=6)
    taking.take(b"one\ntwo\nthr", AT)
    assert not taking.is_whole
    again = AgentOutput(Lines(), tmp_path / "stream", taking.size_bytes, 6, is_whole=taking.is_whole)
    assert [one.body["text"] for one in again.take(b"ee\nfour\n", AT).records] == ["ee", "four"]
    assert (tmp_path / "stream").read_bytes() == b"one\ntw"


def test_a_line_that_was_begun_before_a_gap_does_not_eat_the_one_behind_it(tmp_path: Path) -> None:
    taking = output(tmp_path / "stream")
    taking.take(b'{"half', AT)
    taking.sever()
    assert [one.body["text"] for one in taking.take(b"whole\n", AT).records] == ["whole"]


def test_a_line_of_very_many_parts_is_told_in_part(tmp_path: Path) -> None:
    class Many(Lines):
        def read(self, line: bytes, at: float) -> Told:  # noqa: ARG002
            return Told([AgentEvent("line", {"text": f"{number}"}) for number in range(500)])

    heard = output(tmp_path / "stream", Many()).take(b"x\n", AT)
    assert len([one for one in heard.records if one.kind is Kind.EVENT]) == agent_output.MAX_LINE_EVENTS
    assert "300 more parts" in heard.records[-1].body["message"]


def test_the_last_lines_are_whole_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "stream"
    assert list(last_lines(file)) == []
    file.write_bytes(b"first\nsecond\nthird\n")
    assert list(last_lines(file)) == [b"first", b"second", b"third", b""]
    monkeypatch.setattr(agent_output, "ANSWER_BYTES", 10)
    assert list(last_lines(file)) == [b"third", b""]
