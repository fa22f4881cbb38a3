"""From spool to journal: bytes kept, lines whole, limits marked, resumable after any commit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.journal import PIECE_BYTES, pieces, whole_characters
from orchestrator.models import Claim, Kind, NewRecord, Question
from tests.unit.engine_logs import NUMBER, Said, attached, frame, logged
from workers.agent_output import AgentOutput
from workers.agents.port import AgentEvent, Seen, Told
from workers.demux import Stream
from workers.output import OutputPump, Progress
from workers.spool import HEADER, segment_path
from workers.spool_streams import StreamKind, begin

CLAIM = Claim("task", 1, 1)


class Killed(Exception):
    """The worker dies here."""


class MemoryJournal:
    """Keeps what is committed; can die just after a commit."""

    def __init__(self, commits_until_death: int | None = None) -> None:
        self.records: list[NewRecord] = []
        self.progress: dict[str, Any] = {}
        self._left = commits_until_death

    def write(self, claim: Claim, records: Sequence[NewRecord], **progress: Any) -> None:
        assert claim == CLAIM
        if self._left == 0:
            raise Killed
        self.records += records
        self.progress.update(progress)
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


def pump(directory: Path, journal: MemoryJournal, limit_bytes: int = 1 << 30, marker: bytes = b"") -> None:
    stored = journal.progress
    progress = Progress.load(stored.get("spool_offset"), stored.get("output_bytes", 0), stored.get("dropped_bytes", 0))
    progress.intake.marker = marker
    one = OutputPump(
        CLAIM,
        directory,
        lambda: None,
        journal,  # type: ignore[arg-type]
        progress=progress,
        limit_bytes=limit_bytes,
        on_activity=lambda: None,
    )
    one.start()
    assert one.wait_end(30)


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
        life.progress = journal.progress
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
        life.progress = journal.progress
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
        on_activity=lambda: None, agent=agent,
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
