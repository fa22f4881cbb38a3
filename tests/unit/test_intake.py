"""A log that is cut anywhere and read on from the engine's: each byte once, or a gap that says so."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.engine_logs import Said, attached, entry, frame, logged, printed
from workers import intake as intakes
from workers.demux import Stream
from workers.engine_log import Tally, as_logged, entry_bytes
from workers.intake import DIFFERENT, NOT_TEXT, ROTATED, SHORT, UNCOUNTED, Gap, Intake, Piece, Taken
from workers.spool_streams import StreamKind, StreamStart

MARKER = b"sandboxlog0123\n"
STREAMS: tuple[Stream, ...] = ("stdout", "stderr")
OPENING: list[tuple[Stream, bytes]] = [("stdout", MARKER), ("stderr", MARKER)]

texts = st.text(st.sampled_from('ab\n\r"<\0é€\U0001f600\ufffd\u2028'), min_size=1, max_size=30).map(str.encode)
long_lines = st.builds(lambda n, end: "é€".encode() * n + end, st.integers(3200, 7000), st.sampled_from([b"", b"\n"]))
binaries = st.binary(min_size=1, max_size=30)
names = st.sampled_from(STREAMS)
cuts = st.lists(st.floats(0, 1), max_size=4)


def said_of(data: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[tuple[Stream, bytes]]]:
    return st.lists(st.tuples(names, data), max_size=12)


class Log:
    """The journal, and a worker that dies between any two chunks: only what can be stored goes on."""

    def __init__(self) -> None:
        self.intake = Intake(MARKER)
        self.taken: list[Taken] = []

    def begin(self, kind: StreamKind, gap: str = "") -> None:
        self.taken += self.intake.begin(StreamStart(self.intake.segment + 1, kind, gap))

    def feed(self, data: bytes, size: int = 1000) -> None:
        for at in range(0, len(data), size):
            self.taken += self.intake.take(data[at : at + size])
            self.intake = Intake.load(json.loads(json.dumps(self.intake.dump())))
            self.intake.marker = MARKER

    def finish(self) -> None:
        self.taken += self.intake.finish()

    def said(self, stream: str) -> bytes:
        return b"".join(one.data for one in self.taken if isinstance(one, Piece) and one.stream == stream)

    @property
    def gaps(self) -> list[str]:
        return [one.message for one in self.taken if isinstance(one, Gap)]


def part(data: bytes, share: float) -> bytes:
    return data[: round(len(data) * share)]


def recovered(said: Said, deaths: list[float], size: int) -> Log:
    """The keeper dies at `deaths`: shares of what each stream of its would have said by then."""
    log, whole = Log(), [*OPENING, *said]
    for number, share in enumerate(deaths or [1.0]):
        so_far = whole[: len(whole) * (number + 1) // max(1, len(deaths))]
        if number == 0:
            log.feed(part(attached(so_far), share), size)
        else:
            log.begin(StreamKind.LOG)
            log.feed(part(logged(so_far, ended=False), share), size)
    log.begin(StreamKind.WHOLE_LOG)
    log.feed(logged(whole, ended=True), size)
    log.finish()
    return log


@settings(max_examples=150, deadline=None)
@given(said_of(texts), cuts, st.sampled_from([1, 3, 7, 100]))
def test_text_recovered_from_the_engine_s_log_is_what_was_printed(
    said: list[tuple[Stream, bytes]], deaths: list[float], size: int
) -> None:
    log = recovered(said, deaths, size)
    for stream in STREAMS:
        assert log.said(stream) == b"".join(data for name, data in said if name == stream)
    assert set(log.gaps) <= {NOT_TEXT}


@settings(max_examples=40, deadline=None)
@given(said_of(texts | long_lines), cuts, st.sampled_from([500, 40_000]))
def test_of_a_line_beyond_16_kib_only_the_characters_at_its_cuts_are_changed(
    said: list[tuple[Stream, bytes]], deaths: list[float], size: int
) -> None:
    log = recovered(said, deaths, size)
    for stream in STREAMS:
        exact = b"".join(data for name, data in said if name == stream)
        assert _is_a_mixture(log.said(stream), exact, printed(logged(said, ended=True), stream))
    assert set(log.gaps) <= {NOT_TEXT}


@settings(max_examples=150, deadline=None)
@given(said_of(binaries | texts), cuts, st.sampled_from([1, 3, 7, 100]))
@example([("stdout", b"\xef")], [], 1)  # the first byte of what the engine's log puts in its place
def test_of_bytes_that_are_no_text_none_is_lost_and_a_gap_tells_that_they_are_changed(
    said: list[tuple[Stream, bytes]], deaths: list[float], size: int
) -> None:
    log = recovered(said, deaths, size)
    changed = False
    for stream in STREAMS:
        exact = b"".join(data for name, data in said if name == stream)
        got = log.said(stream)
        changed = changed or got != exact
        assert _is_a_mixture(got, exact, printed(logged(said, ended=True), stream))
    assert set(log.gaps) <= {NOT_TEXT}
    assert not changed or log.gaps == [NOT_TEXT]


def _is_a_mixture(got: bytes, exact: bytes, kept: bytes) -> bool:
    """`got` begins as `exact` and goes on, from some byte on, as the log kept it."""
    if got == exact:
        return True
    same = next((at for at, (one, other) in enumerate(zip(got, exact, strict=False)) if one != other), len(exact))
    return any(got == exact[:at] + kept[len(kept) - (len(got) - at) :] for at in range(min(same, len(got)), -1, -1))


@given(st.lists(binaries | texts | long_lines, max_size=6), st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_a_stream_is_counted_as_the_engine_s_log_has_it(data: list[bytes], size: int) -> None:
    whole = b"".join(data)
    size = size if len(whole) < 3000 else size * 500
    tally = Tally()
    for at in range(0, len(whole), size):
        tally.add(whole[at : at + size])
        tally = Tally.load(json.loads(json.dumps(tally.dump())))
    tally.add_logged(as_logged(tally.partial))
    expected = Tally()
    expected.add_logged(printed(logged([("stdout", whole)], ended=True), "stdout"))
    assert (tally.count, tally.checksum) == (expected.count, expected.checksum)


@given(binaries | texts)
def test_no_entry_takes_more_of_the_log_s_file_than_is_reckoned(data: bytes) -> None:
    kept = entry(data)
    text = json.dumps(kept.decode(), ensure_ascii=False)
    for letter in ("<", ">", "&", "\u2028", "\u2029", "\ufffd", "\x7f"):
        text = text.replace(letter, "\\u0000")
    line = f'{{"log":{text},"stream":"stdout","time":"2026-01-01T00:00:00.123456789Z"}}\n'
    assert len(line.encode()) <= entry_bytes(kept)


def test_a_line_like_the_marker_that_the_command_prints_is_output() -> None:
    said: list[tuple[Stream, bytes]] = [("stdout", MARKER * 3), ("stderr", b"x" + MARKER)]
    for deaths in ([], [0.4], [0.7, 0.9]):
        log = recovered(said, deaths, 5)
        assert (log.said("stdout"), log.said("stderr"), log.gaps) == (MARKER * 3, b"x" + MARKER, [])


def test_output_before_the_marker_is_kept_and_its_loss_cannot_be_recovered() -> None:
    log = Log()
    log.feed(frame("stdout", MARKER[:5]) + frame("stdout", b"early\n") + frame("stderr", MARKER + b"e"))
    log.begin(StreamKind.LOG)
    log.feed(frame("stdout", b"late\n"))
    log.finish()
    assert (log.said("stdout"), log.said("stderr")) == (MARKER[:5] + b"early\n", b"e")
    assert log.gaps == [UNCOUNTED]


def test_a_beginning_of_the_marker_with_nothing_behind_it_is_output() -> None:
    log = Log()
    log.feed(frame("stdout", MARKER[:5]))
    log.finish()
    assert log.said("stdout") == MARKER[:5]


@pytest.mark.parametrize("died_after", [0, len(MARKER), len(MARKER) + 30])
def test_a_log_whose_first_line_is_not_the_marker_has_been_rotated(died_after: int) -> None:
    lines = b"".join(b"line %d\n" % number for number in range(10))
    log = Log()
    log.feed(frame("stdout", (MARKER + lines)[:died_after]))
    log.begin(StreamKind.LOG)
    log.feed(frame("stdout", b"line 7\nline 8\nline 9\n"))
    assert log.gaps == [ROTATED]
    assert log.intake.broken
    log.begin(StreamKind.ATTACH)
    log.feed(frame("stdout", b"line 12\n"))
    log.finish()
    assert log.said("stdout") == (lines[: max(0, died_after - len(MARKER))] + b"line 12\n")
    assert log.gaps == [ROTATED]


def test_a_log_that_lacks_what_is_stored_is_not_continued_by_number() -> None:
    log = Log()
    log.feed(frame("stdout", MARKER + b"one\ntwo\nthree\n"))
    log.begin(StreamKind.LOG)
    log.feed(frame("stdout", MARKER) + frame("stdout", b"one\n") + frame("stdout", b"three\nfour\nfive\n"))
    log.finish()
    assert (log.said("stdout"), log.gaps) == (b"one\ntwo\nthree\n", [DIFFERENT])


def test_a_log_that_ends_before_what_is_stored_is_told() -> None:
    log = Log()
    log.feed(frame("stdout", MARKER + b"one\ntwo\n"))
    log.begin(StreamKind.WHOLE_LOG)
    log.feed(frame("stdout", MARKER + b"one\n"))
    log.finish()
    assert (log.said("stdout"), log.gaps) == (b"one\ntwo\n", [SHORT])


def test_after_a_restart_of_the_engine_a_gap_stands_before_what_is_new() -> None:
    log = Log()
    log.feed(frame("stdout", MARKER + b"one\ntwo"))
    log.begin(StreamKind.LOG, "the engine was restarted")
    log.feed(frame("stdout", MARKER) + frame("stdout", b"one\n"))
    assert log.gaps == []
    log.feed(frame("stdout", b"two\n") + frame("stdout", b"three\n"))
    log.finish()
    assert log.taken[1:] == [Gap("the engine was restarted"), Piece("stdout", b"\n"), Piece("stdout", b"three\n")]


def test_after_a_restart_of_the_engine_a_gap_stands_at_the_end_when_nothing_follows() -> None:
    log = Log()
    log.feed(frame("stdout", MARKER + b"one\n"))
    for kind, gap in ((StreamKind.LOG, "the engine was restarted"), (StreamKind.WHOLE_LOG, "")):
        log.begin(kind, gap)
        log.feed(frame("stdout", MARKER) + frame("stdout", b"one\n"))
    log.finish()
    assert log.taken == [Piece("stdout", b"one\n"), Gap("the engine was restarted")]


def test_a_log_that_is_followed_beyond_a_rotation_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intakes, "LOG_ROTATES_BYTES", 1000)
    log = Log()
    log.feed(frame("stdout", MARKER))
    log.begin(StreamKind.LOG)
    log.feed(frame("stdout", MARKER) + b"".join(frame("stdout", b"line %d\n" % number) for number in range(50)))
    assert log.gaps == [ROTATED]
    said = log.said("stdout")
    assert said.startswith(b"line 0\nline 1\n")
    assert len(said.splitlines()) < 1000 // 72


def test_an_attempt_of_a_version_without_recovery_goes_on_as_it_did() -> None:
    intake = Intake.load({"frame": "stdout:3", "offset": "0:9", "held": {}})
    assert intake.take(b"abc" + frame("stderr", b"e")) == [Piece("stdout", b"abc"), Piece("stderr", b"e")]
    assert not intake.countable
    assert intake.begin(StreamStart(1, StreamKind.ATTACH, "lost")) == [Gap("lost")]
    assert intake.take(frame("stdout", b"on")) == [Piece("stdout", b"on")]
