"""From spool to journal: bytes kept, lines whole, limits marked, resumable after any commit."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.journal import PIECE_BYTES, pieces, whole_characters
from orchestrator.models import Claim, Kind, NewRecord, Question
from tests.unit.engine_logs import NUMBER, Said, attached, frame, logged
from workers.agent_output import AgentOutput
from workers.agents.port import AgentEvent, Seen, Told
from workers.demux import Stream
from workers.output import READ_BYTES, OutputPump, Progress
from workers.spool import CHUNK_MAX_BYTES, HEADER, segment_path
from workers.spool_streams import StreamKind, begin

CLAIM = Claim("task", 1, 1)


class Killed(Exception):
    """The worker dies here."""


class StoredTask:
    """Stands for a transaction that changes the task: the columns that were set, the last value of each."""

    def __init__(self) -> None:
        self.columns: dict[str, Any] = {}

    def execute(self, statement: sa.Update) -> None:
        values = statement.compile().params
        names = ("progress_percent", "progress_text", "outputs", "tool_calls")
        self.columns |= {name: values[name] for name in names if name in values}


class MemoryJournal:
    """Keeps what is committed; can die just after a commit."""

    def __init__(self, commits_until_death: int | None = None) -> None:
        self.records: list[NewRecord] = []
        self.progress: dict[str, Any] = {}
        self.task = StoredTask()
        self._left = commits_until_death

    def write(self, claim: Claim, records: Sequence[NewRecord], *, beside: Any = None, **progress: Any) -> None:
        assert claim == CLAIM
        if self._left == 0:
            raise Killed
        self.records += records
        self.progress.update(progress)
        if beside is not None:
            beside(self.task)
        if self._left is not None:
            self._left -= 1

    def said(self, stream: str) -> bytes:
        return b"".join(one.data or b"" for one in self.records if one.stream == stream)


def spool(directory: Path, chunks: Sequence[bytes], segment: int = 0) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with segment_path(directory, segment).open("wb") as file:
        for chunk in chunks:
            file.write(HEADER.pack(1_700_000_000.0, len(chunk)) + chunk)
    (directory / "eof").write_text("ended")


def spool_of_a_killed_keeper(directory: Path, whole: Said, share: float, cut: int) -> None:
    """It got `share` of what the command printed; the engine's log, read to its end, follows. In chunks of `cut`."""
    first = attached(whole)
    first = first[: round(len(first) * share)]
    second = logged(whole, ended=True)
    spool(directory, [first[at : at + cut] for at in range(0, len(first), cut)])
    begin(directory, StreamKind.WHOLE_LOG, "")
    spool(directory, [second[at : at + cut] for at in range(0, len(second), cut)], segment=1)


def pump(
    directory: Path, journal: MemoryJournal, limit_bytes: int = 1 << 30, marker: bytes = b"", *, is_live: bool = True
) -> None:
    stored, task = journal.progress, journal.task.columns
    progress = Progress.load(stored.get("spool_offset"), stored.get("output_bytes", 0), stored.get("dropped_bytes", 0))
    progress.intake.marker = marker
    progress.said.know(task.get("progress_percent"), task.get("progress_text"), task.get("outputs"))
    one = OutputPump(
        CLAIM,
        directory,
        lambda: None,
        journal,  # type: ignore[arg-type]
        progress=progress,
        limit_bytes=limit_bytes,
        on_activity=lambda: None,
        is_live=is_live,
    )
    one.start()
    assert one.wait_end(30)
    for thread in threading.enumerate():  # else a killed one's last word may be heard in the next test
        if thread.name == f"output-{CLAIM.task_id}":
            thread.join(30)


def test_both_streams_are_kept_apart_and_whole(tmp_path: Path) -> None:
    journal = MemoryJournal()
    spool(tmp_path, [frame("stdout", b"one\ntw") + frame("stderr", b"bad\n"), frame("stdout", b"o\nend")])
    pump(tmp_path, journal)
    assert journal.said("stdout") == b"one\ntwo\nend"
    assert journal.said("stderr") == b"bad\n"


def test_every_record_takes_as_many_numbers_as_it_has_pieces(tmp_path: Path) -> None:
    journal = MemoryJournal()
    data = b"x" * 200_000 + b"\n" + b"short\n" * 50_000 + "é".encode() * 100_000
    spool(tmp_path, [frame("stdout", data[at : at + 30_001]) for at in range(0, len(data), 30_001)])
    pump(tmp_path, journal)
    assert journal.said("stdout") == data
    for one in journal.records:
        assert one.size == len(pieces(one.data or b""))
        assert all(len(piece) <= PIECE_BYTES for piece in pieces(one.data or b""))


def test_no_piece_cuts_a_character_in_two(tmp_path: Path) -> None:
    journal = MemoryJournal()
    data = "a€".encode() * 100_000
    whole = frame("stdout", data)
    spool(tmp_path, [whole[at : at + 200_000] for at in range(0, len(whole), 200_000)])
    pump(tmp_path, journal)
    assert "".join((one.data or b"").decode() for one in journal.records) == data.decode()


def test_what_the_limit_drops_is_marked_with_the_exact_number_of_bytes(tmp_path: Path) -> None:
    journal = MemoryJournal()
    spool(tmp_path, [frame("stdout", b"0123456789\n" * 100)])
    pump(tmp_path, journal, limit_bytes=500)
    assert journal.said("stdout") == (b"0123456789\n" * 100)[:500]
    gaps = [one for one in journal.records if one.kind is Kind.GAP]
    assert [one.body["dropped_bytes"] for one in gaps] == [600]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=st.lists(
        st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(min_size=1, max_size=300)), min_size=1, max_size=12
    ),
    cut=st.integers(1, 200),
    deaths=st.lists(st.integers(1, 4), max_size=6),
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_killed_after_any_commit_goes_on_without_a_gap_or_a_repeat(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[str, bytes]], cut: int, deaths: list[int]
) -> None:
    directory = tmp_path_factory.mktemp("spool")
    stream = b"".join(frame(name, data) for name, data in said)
    spool(directory, [stream[at : at + cut] for at in range(0, len(stream), cut)])
    journal = MemoryJournal()
    for commits in [*deaths, None]:
        life = MemoryJournal(commits)
        life.progress, life.task = journal.progress, journal.task
        pump(directory, life)
        journal.records += life.records
        journal.progress = life.progress
    for name in NUMBER:
        assert journal.said(name) == b"".join(data for stream_name, data in said if stream_name == name)


MARKER = b"sandboxlog0123\n"


def lives(directory: Path, journal: MemoryJournal, deaths: list[int]) -> None:
    """Pump to the end with a worker that dies after so many commits of each life but the last."""
    for commits in [*deaths, None]:
        life = MemoryJournal(commits)
        life.progress, life.task = journal.progress, journal.task
        pump(directory, life, marker=MARKER)
        journal.records += life.records
        journal.progress = life.progress


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=st.lists(
        st.tuples(st.sampled_from(["stdout", "stderr"]), st.text("ab\né", min_size=1).map(str.encode)), max_size=12
    ),
    share=st.floats(0, 1),
    cut=st.integers(1, 200),
    deaths=st.lists(st.integers(1, 3), max_size=4),
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_keeper_and_worker_killed_anywhere_leave_exactly_what_was_printed(
    tmp_path_factory: pytest.TempPathFactory,
    said: list[tuple[Stream, bytes]],
    share: float,
    cut: int,
    deaths: list[int],
) -> None:
    directory = tmp_path_factory.mktemp("spool")
    whole: list[tuple[Stream, bytes]] = [("stdout", MARKER), ("stderr", MARKER), *said]
    spool_of_a_killed_keeper(directory, whole, share, cut)
    journal = MemoryJournal()
    lives(directory, journal, deaths)
    for name in NUMBER:
        assert journal.said(name) == b"".join(data for stream, data in said if stream == name)
    assert all(one.kind is Kind.OUTPUT for one in journal.records)


def test_a_stream_that_was_attached_again_begins_with_a_gap_and_a_new_line(tmp_path: Path) -> None:
    journal = MemoryJournal()
    spool(tmp_path, [frame("stdout", MARKER + b"one\ntw"), frame("stdout", b"lost")[:9]])
    begin(tmp_path, StreamKind.ATTACH, "the keeper died")
    spool(tmp_path, [frame("stdout", b"ree\nfour\n")], segment=1)
    pump(tmp_path, journal, marker=MARKER)
    assert [one.data or one.body["message"] for one in journal.records] == [
        b"one\n", b"twl", "the keeper died", b"ree\nfour\n"
    ]  # fmt: skip


def test_a_loss_after_which_nothing_comes_is_told_at_the_end(tmp_path: Path) -> None:
    journal = MemoryJournal()
    spool(tmp_path, [frame("stdout", MARKER + b"one\n")])
    begin(tmp_path, StreamKind.ATTACH, "the keeper died")
    pump(tmp_path, journal, marker=MARKER)
    assert [one.data or one.body["message"] for one in journal.records] == [b"one\n", "the keeper died"]


def test_a_stream_with_nothing_but_the_marker_costs_no_transaction(tmp_path: Path) -> None:
    journal = MemoryJournal()
    spool(tmp_path, [frame("stdout", MARKER), frame("stderr", MARKER)])
    pump(tmp_path, journal, marker=MARKER)
    assert (journal.records, journal.progress) == ([], {})


@pytest.mark.parametrize(
    ("data", "end", "expected"),
    [(b"abc", 3, 3), ("é".encode(), 1, 0), ("é".encode(), 2, 2), (b"a" + "€".encode(), 3, 1), (b"\x80" * 6, 5, 5)],
)
def test_a_cut_moves_back_to_a_whole_character(data: bytes, end: int, expected: int) -> None:
    assert whole_characters(data, end) == expected


class Chatty:
    """A reader that tells each line as an event of about a hundred bytes, and asks a question with it."""

    shows_lines = False

    def __init__(self) -> None:
        self.seen = Seen()

    def read(self, line: bytes, at: float) -> Told:
        question = Question(line.decode(), datetime.fromtimestamp(at, UTC), "question", "?")
        return Told([AgentEvent("line", {"text": line.decode() * 10})], asked=[question])


def test_what_is_told_of_an_agent_is_limited_as_its_output_is(tmp_path: Path) -> None:
    journal, progress = MemoryJournal(), Progress()
    lines = "".join(f"line {number:05}\n" for number in range(100)).encode()
    spool(tmp_path / "spool", [frame("stdout", lines)])
    agent = AgentOutput(Chatty(), tmp_path / "stream", 0, 1 << 20)
    reading = OutputPump(
        CLAIM, tmp_path / "spool", lambda: None, journal, progress=progress, limit_bytes=2000,
        on_activity=lambda: None, agent=agent, is_live=False,
    )  # fmt: skip
    reading.start()
    assert reading.wait_end(30)
    told = [one for one in journal.records if one.kind is Kind.EVENT]
    assert 0 < sum(len(str(one.body)) for one in told) <= 2000
    assert [one.body["text"][:10] for one in told] == [f"line {number:05}" for number in range(len(told))]
    [gap] = [one for one in journal.records if one.kind is Kind.GAP]
    assert gap.body["dropped_bytes"] > 2000
    assert progress.event_bytes <= 2000
    again = Progress.load(journal.progress["spool_offset"], 0, 0)
    assert again.event_bytes == progress.event_bytes


# --- what a command says of itself


def told(journal: MemoryJournal) -> list[tuple[float | None, str | None]]:
    return [(one.body["percent"], one.body["text"]) for one in journal.records if one.kind is Kind.PROGRESS]


def warned(journal: MemoryJournal) -> list[str]:
    return [one.body["message"] for one in journal.records if one.kind is Kind.SYSTEM]


def test_what_a_command_says_of_itself_is_stored_beside_the_lines_that_say_it(tmp_path: Path) -> None:
    journal = MemoryJournal()
    said = b"::progress 10 begun\n::output image=app:1\nbuilding\n::progress 40 half\r\n::output image=app:2\n"
    spool(tmp_path, [frame("stdout", said) + frame("stderr", b"::output log=x y\n")])
    pump(tmp_path, journal)
    assert journal.said("stdout") == said
    assert told(journal) == [(40, "half")], "the newest of what was read at once"
    assert journal.task.columns == {
        "progress_percent": 40, "progress_text": "half", "outputs": {"image": "app:2", "log": "x y"},
    }  # fmt: skip
    [record] = [one for one in journal.records if one.kind is Kind.PROGRESS]
    size = len(said) + len(b"::output log=x y\n")
    assert record.body == {
        "percent": 40, "text": "half", "output_bytes": size, "tool_calls": 0, "current_tool": None,
        "last_activity_at": "2023-11-14T22:13:20.000000Z",
    }  # fmt: skip
    assert warned(journal) == []


def test_what_is_said_last_is_stored_although_something_was_a_moment_ago_and_nobody_waits_yet(tmp_path: Path) -> None:
    journal = MemoryJournal()
    first = frame("stdout", b"::output first=before\n" + b"x" * CHUNK_MAX_BYTES + b"\n")
    chunks = [first[at : at + CHUNK_MAX_BYTES] for at in range(0, len(first), CHUNK_MAX_BYTES)]
    filling = -(-READ_BYTES // CHUNK_MAX_BYTES) * [frame("stderr", b"x" * (CHUNK_MAX_BYTES - 9) + b"\n")]
    spool(tmp_path, [*chunks, *filling, frame("stdout", b"::progress 100 done\n::output last=after\n")])
    progress = Progress()
    pumping = OutputPump(
        CLAIM, tmp_path, lambda: None, journal, progress=progress, limit_bytes=1 << 30, on_activity=lambda: None
    )  # fmt: skip
    pumping.start()
    [thread] = [one for one in threading.enumerate() if one.name == f"output-{CLAIM.task_id}"]
    thread.join(30)
    assert not thread.is_alive()
    assert journal.task.columns["outputs"] == {"first": "before", "last": "after"}
    assert told(journal) == [(100, "done")]


def test_a_line_in_two_chunks_is_one_and_one_that_was_delivered_unfinished_is_none(tmp_path: Path) -> None:
    journal = MemoryJournal()
    whole = b"::progress 40 half\n"
    stream = frame("stdout", whole[:7]) + frame("stdout", whole[7:]) + frame("stdout", b"::progress 50")
    spool(tmp_path, [stream[:20], stream[20:]])
    pump(tmp_path, journal)
    assert told(journal) == [(40, "half")]
    assert journal.said("stdout") == whole + b"::progress 50"


def test_a_line_of_which_the_beginning_was_lost_says_nothing(tmp_path: Path) -> None:
    journal = MemoryJournal()
    spool(tmp_path, [frame("stdout", MARKER + b"what follows, the command did not print at the beginning of a line: ")])
    begin(tmp_path, StreamKind.ATTACH, "the keeper died")
    spool(tmp_path, [frame("stdout", b"::progress 1\n::progress 2 whole\n")], segment=1)
    pump(tmp_path, journal, marker=MARKER)
    assert told(journal) == [(2, "whole")]


def test_an_attempt_that_ended_long_ago_changes_nothing_of_its_task(tmp_path: Path) -> None:
    journal = MemoryJournal()
    spool(tmp_path, [frame("stdout", b"::progress 40\n::output a=b\n::progress x\n")])
    pump(tmp_path, journal, is_live=False)
    assert {one.kind for one in journal.records} == {Kind.OUTPUT}
    assert journal.task.columns == {}


def test_what_is_malformed_is_told_once_behind_the_line(tmp_path: Path) -> None:
    journal = MemoryJournal()
    spool(tmp_path, [frame("stdout", b"::progress much\n" * 1000), frame("stderr", b"::progress 101\n::output\n")])
    pump(tmp_path, journal)
    first, second = warned(journal)
    assert ("`::progress much`" in first, "`::output`" in second) == (True, True)
    assert [one.kind for one in journal.records[:2]] == [Kind.OUTPUT, Kind.SYSTEM]
    assert told(journal) == []


def test_progress_counts_against_the_limit_of_what_is_told_and_the_newest_is_known_all_the_same(
    tmp_path: Path,
) -> None:
    journal = MemoryJournal()
    for number in range(20):
        line = f"::progress {number}\n".encode()
        spool(tmp_path, [frame("stdout", line)], segment=number)
        pump(tmp_path, journal, limit_bytes=2000)
    told_of = told(journal)
    assert 0 < len(told_of) < 20
    assert told_of == [(float(number), None) for number in range(len(told_of))]
    assert journal.task.columns["progress_percent"] == 19
    assert any(one.kind is Kind.GAP for one in journal.records)


def test_what_is_said_behind_the_limit_of_the_log_is_taken_all_the_same(tmp_path: Path) -> None:
    journal = MemoryJournal()
    spool(tmp_path, [frame("stdout", b"x" * 5000 + b"\n"), frame("stdout", b"::output a=b\n")])
    pump(tmp_path, journal, limit_bytes=2000)
    assert journal.task.columns == {"outputs": {"a": "b"}}


SAID_LINES = st.lists(
    st.sampled_from([b"::progress 1 one\n", b"::progress 2\n", b"::output a=1\n", b"::output b=2\n", b"words\n",
                     b"::progress x\n", b"no ::progress 3\n"]),
    max_size=12,
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=SAID_LINES, share=st.floats(0, 1), cut=st.integers(1, 60), deaths=st.lists(st.integers(1, 3), max_size=4))
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_keeper_and_worker_killed_anywhere_lose_nothing_of_what_was_said_and_repeat_nothing(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], share: float, cut: int, deaths: list[int]
) -> None:
    directory = tmp_path_factory.mktemp("spool")
    whole: list[tuple[Stream, bytes]] = [("stdout", MARKER), ("stderr", MARKER), *(("stdout", one) for one in lines)]
    spool_of_a_killed_keeper(directory, whole, share, cut)
    journal = MemoryJournal()
    lives(directory, journal, deaths)
    said = [one.split()[1:] for one in lines if one in (b"::progress 1 one\n", b"::progress 2\n")]
    last = (float(said[-1][0]), "one" if len(said[-1]) > 1 else None) if said else (None, None)
    columns = journal.task.columns
    assert (columns.get("progress_percent"), columns.get("progress_text")) == last
    outputs = {line[9:10].decode(): line[11:12].decode() for line in lines if line.startswith(b"::output")}
    assert columns.get("outputs", {}) == outputs
    records = told(journal)
    assert records[-1:] == ([last] if said else [])
    assert all(one != after for one, after in itertools.pairwise(records)), "nothing is told twice"
    assert len(warned(journal)) == (b"::progress x\n" in lines)


class Working:
    """A reader of an agent that uses one tool a line."""

    shows_lines = True

    def __init__(self) -> None:
        self.seen = Seen()

    def read(self, line: bytes, at: float) -> Told:  # noqa: ARG002 - the port's
        self.seen.turns += 1
        if line.startswith(b"tool"):
            self.seen.tool_calls += 1
            self.seen.current_tool = line.decode()
        return Told()


def test_an_agent_s_progress_is_told_when_its_tools_change_and_its_words_are_no_commands(tmp_path: Path) -> None:
    journal, reader = MemoryJournal(), Working()
    for number, lines in enumerate((b"tool a\n", b"thinking\n::progress 40\n::output a=b\n", b"tool b\n")):
        spool(tmp_path / "spool", [frame("stdout", lines)], segment=number)
        stored = journal.progress
        progress = Progress.load(stored.get("spool_offset"), stored.get("output_bytes", 0), 0)
        progress.earlier_bytes = 1000
        kept = AgentOutput(reader, tmp_path / "stream", progress.stream_bytes, 1 << 20)
        reading = OutputPump(
            CLAIM, tmp_path / "spool", lambda: None, journal, progress=progress, limit_bytes=1 << 20,
            on_activity=lambda: None, agent=kept,
        )  # fmt: skip
        reading.start()
        assert reading.wait_end(30)
    records = [one.body for one in journal.records if one.kind is Kind.PROGRESS]
    assert [(one["tool_calls"], one["current_tool"], one["percent"]) for one in records] == [
        (1, "tool a", None), (2, "tool b", None),
    ]  # fmt: skip
    assert records[0]["output_bytes"] == 1000 + len(b"tool a\n")
    assert journal.task.columns == {"tool_calls": 2}
