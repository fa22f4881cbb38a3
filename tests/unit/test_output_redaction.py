"""K2: what a command prints of its secrets never reaches the journal, nor the progress that is stored beside it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.models import Kind
from tests.unit.engine_logs import attached, frame
from tests.unit.test_output import CLAIM, MARKER, MemoryJournal, spool, spool_of_a_killed_keeper
from workers.demux import Stream
from workers.keeper_client import Doorbell
from workers.output import OutputPump, Progress
from workers.redaction import Redactor
from workers.spool_streams import StreamKind, begin

TOKEN = b"tok-4f9c1e77a0b2d3c5e6f7a8b9"
KEY = b"-----BEGIN KEY-----\nMIIEvQIBADANBgkqh\nkiG9w0BAQEFAASC\n-----END KEY-----"
REDACTOR = Redactor([TOKEN, KEY])
SECRET_BYTES = [TOKEN, *KEY.split(b"\n"), base64.b64encode(TOKEN)[:-4]]


def pump(
    directory: Path,
    journal: MemoryJournal,
    *,
    withheld: str | None = None,
    marker: bytes = b"",
    doorbell: Callable[[], Doorbell | None] = lambda: None,
) -> OutputPump:
    stored = journal.progress
    progress = Progress.load(stored.get("spool_offset"), stored.get("output_bytes", 0), stored.get("dropped_bytes", 0))
    progress.intake.marker = marker
    progress.redaction.use(Redactor([TOKEN, KEY]), withheld)
    one = OutputPump(
        CLAIM,
        directory,
        doorbell,
        journal,  # type: ignore[arg-type]
        progress=progress,
        limit_bytes=1 << 30,
        on_activity=lambda: None,
    )
    one.start()
    return one


def pumped(directory: Path, journal: MemoryJournal, **options: str | bytes | None) -> None:
    assert pump(directory, journal, **options).wait_end(30)  # type: ignore[arg-type]


def lives(directory: Path, journal: MemoryJournal, deaths: Sequence[int], marker: bytes = b"") -> list[str]:
    """Pump to the end with a worker that dies after so many commits of each life but the last; what was stored."""
    stored = []
    for commits in [*deaths, None]:
        life = MemoryJournal(commits)
        life.progress = journal.progress
        pumped(directory, life, marker=marker)
        journal.records += life.records
        journal.progress = life.progress
        stored.append(str(journal.progress.get("spool_offset")))
    return stored


def shows_a_secret(text: bytes) -> bool:
    return any(one[at : at + 8] in text for one in SECRET_BYTES for at in range(len(one) - 7))


def stored_shows_a_secret(stored: str) -> bool:
    """The progress without its unfinished lines, and these, which are in base64."""
    if stored == "None":
        return False
    state = json.loads(stored)
    held = [base64.b64decode(one) for one in state.pop("held").values()]
    return any(shows_a_secret(one) for one in [json.dumps(state).encode(), *held])


@pytest.mark.parametrize("secret", [TOKEN, KEY, base64.b64encode(b"user:" + TOKEN)])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_k2_a_secret_split_over_two_writes_at_any_position_is_masked(tmp_path: Path, secret: bytes) -> None:
    for at in range(1, len(secret)):
        journal, directory = MemoryJournal(), tmp_path / str(at)
        first, second = b"say " + secret[:at], secret[at:] + b" said\n"
        # The first write is stored by itself: the other stream's line brings a commit.
        spool(directory, [frame("stdout", first) + frame("stderr", b"x\n"), frame("stdout", second)])
        stored = lives(directory, journal, [1])
        assert journal.said("stdout").startswith(b"say ")
        assert b"***" in journal.said("stdout")
        assert journal.said("stdout").endswith(b" said\n")
        assert not shows_a_secret(journal.said("stdout")), at
        assert not any(stored_shows_a_secret(one) for one in stored), at


PIECES = st.sampled_from([TOKEN, KEY, base64.b64encode(TOKEN), TOKEN[:7], b"a line\n", b"\n", "é".encode(), b"tok-"])


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), PIECES), min_size=1, max_size=12),
    cut=st.integers(1, 60),
    deaths=st.lists(st.integers(0, 3), max_size=5),
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_k2_a_worker_killed_after_any_commit_goes_on_masking_exactly_there(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[Stream, bytes]], cut: int, deaths: list[int]
) -> None:
    directory = tmp_path_factory.mktemp("spool")
    stream = b"".join(frame(name, data) for name, data in said)
    spool(directory, [stream[at : at + cut] for at in range(0, len(stream), cut)])
    killed, alive = MemoryJournal(), MemoryJournal()
    stored = lives(directory, killed, deaths)
    spool(directory / "again", [stream])
    lives(directory / "again", alive, [])
    for name in ("stdout", "stderr"):
        assert killed.said(name) == alive.said(name)
        assert TOKEN not in killed.said(name)
    assert not any(stored_shows_a_secret(one) for one in stored)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), PIECES), max_size=12),
    share=st.floats(0, 1),
    cut=st.integers(1, 60),
    deaths=st.lists(st.integers(1, 3), max_size=4),
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_k2_a_log_recovered_after_the_keepers_death_is_masked_across_the_seam(
    tmp_path_factory: pytest.TempPathFactory,
    said: list[tuple[Stream, bytes]],
    share: float,
    cut: int,
    deaths: list[int],
) -> None:
    directory = tmp_path_factory.mktemp("spool")
    whole: list[tuple[Stream, bytes]] = [("stdout", MARKER), ("stderr", MARKER), *said]
    spool_of_a_killed_keeper(directory, whole, share, cut)
    journal, alive = MemoryJournal(), MemoryJournal()
    stored = lives(directory, journal, deaths, MARKER)
    spool(directory / "again", [attached(whole)])
    lives(directory / "again", alive, [], MARKER)
    for name in ("stdout", "stderr"):
        assert journal.said(name) == alive.said(name)
    assert not any(stored_shows_a_secret(one) for one in stored)


def test_the_beginning_of_a_secret_is_held_back_as_long_as_it_takes_while_the_rest_goes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush of unfinished lines must not show the first half of a secret whose other half comes a second later."""
    rings = iter([None] * 6)
    monkeypatch.setattr("workers.output.HOLD_SECONDS", 0.0)  # every look is one after a line has waited long enough

    class Slow:
        """Rings six times with nothing new."""

        def wait(self, timeout_seconds: float) -> str | None:
            del timeout_seconds
            return next(rings, "eof")

        def close(self) -> None: ...

    journal = MemoryJournal()
    spool(tmp_path, [frame("stdout", b"password: " + TOKEN[:12])])
    (tmp_path / "eof").unlink()
    doorbells = iter([Slow()])
    pumping = pump(tmp_path, journal, doorbell=lambda: next(doorbells, None))  # type: ignore[arg-type,return-value]
    assert pumping.wait_end(30)
    assert [one.data for one in journal.records] == [b"password: ", b"***"]


def test_without_the_values_the_rest_is_withheld_and_one_gap_says_why(tmp_path: Path) -> None:
    journal = MemoryJournal()
    spool(tmp_path, [frame("stdout", b"begin\n"), frame("stdout", TOKEN + b"\n"), frame("stderr", b"more\n")])
    pumped(tmp_path, journal, withheld="the values are gone")
    assert [(one.kind, one.body.get("message")) for one in journal.records] == [
        (Kind.GAP, "the rest of the output is withheld: the values are gone")
    ]
    # A later worker that knows them again cannot line up what is stored with what it would show.
    spool(tmp_path, [frame("stdout", b"begin\n"), frame("stdout", TOKEN + b"\n"), frame("stderr", b"more\n" * 2)])
    again = MemoryJournal()
    again.progress = journal.progress
    pumped(tmp_path, again)
    assert again.records == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_state_of_another_version_withholds_rather_than_shows(tmp_path: Path) -> None:
    journal = MemoryJournal()
    spool(tmp_path, [frame("stderr", b"x\n") + frame("stdout", TOKEN[:9])])
    lives(tmp_path, journal, [1])
    state = json.loads(journal.progress["spool_offset"])
    state["redaction"] = {"stdout": [99, 0, 9, [], 0]}
    state["offset"] = "0:0"
    later = MemoryJournal()
    later.progress = journal.progress | {"spool_offset": json.dumps(state)}
    pumped(tmp_path, later)
    assert [one.kind for one in later.records] == [Kind.GAP]
    assert "another version" in later.records[0].body["message"]


@pytest.mark.parametrize(
    ("after", "shown"), [(b"hello\n", b"***hello\n"), (TOKEN[12:] + b"\n", b"***\n"), (TOKEN + b"\n", b"******\n")]
)
@pytest.mark.parametrize("deaths", [[], [1]])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_k2_the_beginning_of_a_secret_is_masked_at_a_gap_and_its_rest_if_that_follows(
    tmp_path: Path, after: bytes, shown: bytes, deaths: list[int]
) -> None:
    journal = MemoryJournal()
    spool(tmp_path, [frame("stdout", b"a\n" + TOKEN[:12])])
    begin(tmp_path, StreamKind.ATTACH, "output may be missing here")
    spool(tmp_path, [frame("stdout", after)], segment=1)
    stored = lives(tmp_path, journal, deaths)
    assert journal.said("stdout") == b"a\n" + shown
    assert Kind.GAP in [one.kind for one in journal.records]
    assert not any(TOKEN[:12].decode() in one for one in stored)
