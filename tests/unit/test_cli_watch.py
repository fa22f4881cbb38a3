"""`sandbox task watch`: the picture, the lines, the frames, and how it ends."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from rich.console import Console

from api.client import Client, Event
from api.commands import frames
from api.commands.clock_face import clock_face
from api.commands.frame_printer import LONGEST_LINE
from api.commands.task_board import ENDED_STAY, SILENCE, Board
from tests.unit.fake_api import AT, FakeApi, changed, frame, task
from tests.unit.on_terminal import OnTerminal
from tests.unit.test_cli import Ran, sandbox

NOW = datetime.fromisoformat(AT)
METRICS = {"cpu_percent": 120.4, "memory_used_bytes": 1.2 * (1 << 30), "memory_total_bytes": 8 << 30}


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as running:
        yield running


def event(body: dict[str, Any]) -> Event:
    return Event("0-1", body["type"], body.get("task_id"), body)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


# --- words


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("one\ntwo\n", "two"),
        ("one\n\n  \n", "one"),
        ("10 %\r50 %\r", "50 %"),
        ("half a li", "half a li"),
        ("\x1b[1;31mred\x1b[0m \x1b]0;title\x07end\n", "red end"),
        ("a\x08b\x1bXc", "a\\x08b\\x1bXc"),
        ("", ""),
        ("x" * 10_000_000, "x" * frames.LONGEST_LINE),
    ],
)
def test_the_last_words_of_an_output_are_fit_for_a_line(data: str, words: str) -> None:
    assert frames.last_line(data) == words


@pytest.mark.parametrize(
    ("used", "total", "words"),
    [
        (1.2 * (1 << 30), 8 << 30, "1.2/8.0 G"),
        (100 << 20, 512 << 20, "100/512 M"),
        (0, 8 << 30, "0.0/8.0 G"),
        (3 << 20, None, "3 M"),
        (None, 8 << 30, None),
        (True, "much", None),
    ],
)
def test_a_use_is_shown_with_its_limit(used: object, total: object, words: str | None) -> None:
    assert frames.memory({"memory_used_bytes": used, "memory_total_bytes": total}) == words
    assert frames.disk({"disk_used_bytes": used, "disk_total_bytes": total}) == words


@pytest.mark.parametrize(
    ("seconds", "face"), [(-5, "00:00"), (42.9, "00:42"), (3723, "1:02:03"), (86400 * 2 + 11045, "2d 03:04")]
)
def test_durations_are_shown_as_by_a_clock(seconds: float, face: str) -> None:
    assert clock_face(seconds) == face


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (changed("t", "ready", "running", "it runs"), "ready -> running: it runs"),
        (changed("t", None, "pending", preexisting=True), "pending"),
        (
            frame("error", "t", error="oom_killed", message="memory\x1b ran out"),
            "error oom_killed: memory\\x1b ran out",
        ),
        (frame("artifact", "t", artifact={"path": "out/a", "size_bytes": 7}), "artifact out/a (7 bytes)"),
        (frame("progress", "t", progress={"percent": 40.4, "text": "tests"}), "progress 40 % tests"),
        (frame("progress", "t", progress={"percent": None, "current_tool": "Bash"}), "progress uses Bash"),
        (frame("metrics", "t", metrics=METRICS), "cpu 120 %, memory 1.2/8.0 G"),
        (frame("event", "t", event={"type": "tool_use", "tool": "Bash", "summary": "ls"}), "● Bash: ls"),
        (frame("gap", None, reason="removed"), "gap: removed"),
    ],
)
def test_each_frame_has_its_words(body: dict[str, Any], words: str) -> None:
    assert frames.words(event(body)) == words


# --- the picture


def board_of(*bodies: dict[str, Any], now: datetime = NOW, **options: Any) -> Board:
    board = Board(**options)
    for body in bodies:
        board.take(event(body), now)
    return board


def drawn(board: Board, width: int = 140, height: int = 24, now: datetime = NOW) -> list[str]:
    console = Console(width=width, height=height, force_terminal=False, highlight=False)
    with console.capture() as captured:
        console.print(board.picture(width, height, now))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_a_row_shows_all_that_is_known_of_a_task() -> None:
    board = board_of(
        changed("t1", "pending", "staging"),
        changed("t1", "ready", "running"),
        frame("metrics", "t1", metrics=METRICS),
        frame("progress", "t1", progress={"percent": 40, "text": "tests"}),
        frame("output", "t1", stream="stdout", data="one\n\x1b[31mtwo\x1b[0m\n"),
    )
    board.take(event(frame("heartbeat", None)), at(42))
    heading, names, row = drawn(board, now=at(42))
    assert heading == "1 active"
    assert names.split() == ["state", "time", "task", "name", "done", "cpu", "memory", "last", "words"]
    assert re.split(" {2,}", row) == [
        "● running",
        "00:42",
        "t1",
        "A task",
        "███░░░░░ 40 %",
        "120 %",
        "1.2/8.0 G",
        "two",
    ]


def test_those_that_run_come_first_then_what_is_prepared_then_what_has_ended_then_what_waits() -> None:
    board = board_of(
        changed("waits", None, "pending"),
        changed("ended", "completing", "completed"),
        changed("prepared", "pending", "staging"),
        changed("runs-2", "ready", "running", timestamp=AT.replace("10:15", "10:16")),
        changed("runs-1", "ready", "running"),
    )
    assert [one.task_id for one in board.shown(NOW)] == ["runs-1", "runs-2", "prepared", "ended", "waits"]
    heading, _, *rows = drawn(board)
    assert heading == "3 active · 1 waiting · 1 ended"
    assert [row[0] for row in rows] == ["●", "●", "●", "✓", "○"]


def test_what_has_ended_stays_for_a_while_with_the_time_it_took() -> None:
    board = board_of(changed("t", "pending", "running"), changed("t", "running", "failed", "oom"))
    board.take(event(changed("u", "x", "failed", timestamp=AT.replace(":02.", ":09."))), NOW)
    assert "✗ failed" in drawn(board, now=at(30))[3]
    assert drawn(board, now=at(30))[3].split()[2:4] == ["00:00", "t"]
    gone = NOW + ENDED_STAY + timedelta(seconds=1)
    assert drawn(board, now=gone)[0].startswith("no tasks")
    stays = board_of(changed("t", "running", "failed"), stays=True)
    assert "✗ failed" in drawn(stays, now=gone)[2]


def test_a_task_without_a_measure_of_its_progress_turns() -> None:
    board = board_of(changed("t", "ready", "running"), frame("progress", "t", progress={"current_tool": "Bash"}))
    first, second = (drawn(board, now=at(seconds))[2] for seconds in (0, 0.125))
    assert "Bash" in first
    assert first != second


def test_what_was_before_is_completed_by_what_a_list_knows() -> None:
    board = board_of(changed("t", None, "running", preexisting=True))
    board.learn(task("t", started_at=AT.replace("10:15", "10:05"), progress={"percent": 75}))
    board.learn(task("unknown"))
    row = drawn(board)[2]
    assert "10:00" in row
    assert "75 %" in row
    assert "unknown" not in row


def test_a_new_attempt_begins_its_progress_again_and_a_new_phase_its_use() -> None:
    told = [
        changed("t", "ready", "running"),
        frame("metrics", "t", metrics=METRICS),
        frame("progress", "t", progress={"percent": 40}),
    ]
    assert "120 %" not in drawn(board_of(*told, changed("t", "running", "completing")))[2]
    assert "40 %" in drawn(board_of(*told, changed("t", "running", "completing")))[2]
    assert "40 %" not in drawn(board_of(*told, changed("t", "running", "pending")))[2]


def test_only_tasks_in_the_states_asked_for_are_shown() -> None:
    board = board_of(
        changed("a", None, "running"), changed("b", None, "pending"), changed("a", "running", "completing"),
        states=["running"],
    )  # fmt: skip
    assert board.shown(NOW) == []
    board.take(event(changed("b", "ready", "running")), NOW)
    assert [one.task_id for one in board.shown(NOW)] == ["b"]


def test_a_frame_of_a_task_that_was_not_named_shows_nothing() -> None:
    board = board_of(frame("output", "late", stream="stdout", data="x"), frame("new", "late"), frame("heartbeat", None))
    assert board.shown(NOW) == []


@pytest.mark.parametrize("height", [4, 5, 10, 24])
@pytest.mark.parametrize("width", [12, 20, 40, 60, 80, 100, 140, 200])
def test_the_picture_fits_the_terminal(width: int, height: int) -> None:
    board = Board()
    for number in range(30):
        name = f"0b6a7c1e-0000-4000-8000-{number:012}"
        board.take(event(changed(name, "ready", "running", name="漢字" * 30)), NOW)
        board.take(event(frame("metrics", name, metrics=METRICS)), NOW)
        board.take(event(frame("progress", name, progress={"percent": 100})), NOW)
        board.take(event(frame("output", name, stream="stdout", data="words " * 100)), NOW)
    found = drawn(board, width, height, at(3600))
    assert len(found) < height
    console = Console(width=width)
    assert max(console.measure(text).maximum for text in found) <= width
    assert found[2].startswith("● running" if width > 12 else "●")
    assert height == 4 or found[-1].startswith(f"… and {30 - (height - 4)} mo")


def test_on_a_narrow_terminal_the_least_important_goes_first() -> None:
    board = board_of(
        changed("0b6a7c1e-0000-4000-8000-000000000001", "ready", "running"),
        frame("metrics", "0b6a7c1e-0000-4000-8000-000000000001", metrics=METRICS),
        frame("output", "0b6a7c1e-0000-4000-8000-000000000001", stream="stdout", data="what it says at last"),
    )
    assert "0b6a7c1e-0000-4000-8000-000000000001" in drawn(board, 140)[2]
    assert drawn(board, 100)[1].split()[5:] == ["cpu", "memory", "last", "words"]
    assert drawn(board, 80)[1].split() == ["state", "time", "task", "name", "done", "cpu", "last", "words"]
    assert "0b6a7c1e-000…" in drawn(board, 80)[2]
    assert drawn(board, 66)[1].split() == ["state", "time", "task", "name", "done", "last", "words"]
    board.take(event(frame("progress", "0b6a7c1e-0000-4000-8000-000000000001", progress={"percent": 50})), NOW)
    assert "████░░░░ 50 %" in drawn(board, 80)[2]
    assert drawn(board, 60)[2].split()[4:6] == ["50", "%"]
    assert drawn(board, 50)[1].split() == ["state", "time", "task", "last", "words"]
    assert drawn(board, 40)[1].split() == ["state", "task", "last", "words"]


def test_nothing_a_task_says_or_is_called_can_repaint_the_terminal() -> None:
    hostile = "\x1b[2J\x9b5n\x07[bold]"
    board = board_of(
        changed(f"t{hostile}", "ready", "running", hostile, name=hostile),
        frame("error", f"t{hostile}", error=hostile, message=hostile),
        frame("output", f"t{hostile}", stream="stdout", data=hostile),
        frame("progress", f"t{hostile}", progress={"percent": None, "current_tool": hostile}),
    )
    shown = "\n".join(drawn(board, 200))
    assert "\x9b" not in shown
    assert "\x07" not in shown
    assert "\x1b[2J" not in shown
    assert "[bold]" in shown


def test_who_hears_nothing_from_the_server_says_so() -> None:
    board = board_of(changed("t", None, "running"))
    assert "nothing heard" not in drawn(board, now=NOW + SILENCE)[0]
    assert drawn(board, now=at(75))[0] == "1 active · nothing heard from the server for 01:15"
    board.take(event(frame("heartbeat", None)), at(75))
    assert "nothing heard" not in drawn(board, now=at(75))[0]


# --- in a pipe


def interrupted_after(monkeypatch: pytest.MonkeyPatch, count: int) -> list[dict[str, Any]]:
    """Let the user press Ctrl-C after so many frames of the stream; return what was asked for."""
    real: Callable[..., Iterator[Event]] = Client.events
    asked: list[dict[str, Any]] = []

    def events(client: Client, *args: Any, **options: Any) -> Iterator[Event]:
        asked.append({"task_id": args[0], **options})

        yield from islice(real(client, *args, **options), count)
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "events", events)
    return asked


def watch(api: FakeApi, *args: str) -> Ran:
    return sandbox("task", "watch", *args, server=api.url)


CHATTER = [
    changed("a", "ready", "running", "it runs"),
    frame("output", "a", stream="stdout", data="one\ntw"),
    frame("metrics", "a", metrics=METRICS),
    frame("output", "a", stream="stderr", data="warning\n"),
    frame("output", "a", stream="stdout", data="o\r\nthree"),
    frame("artifact", "a", artifact={"path": "out/a", "size_bytes": 7}),
    frame("error", "a", error="exit_nonzero", message="it ended with 3"),
    changed("a", "completing", "failed", "it ended with 3"),
]


def test_in_a_pipe_each_piece_of_news_is_a_line(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = interrupted_after(monkeypatch, 6)
    api.tasks = {
        "a": task("a", "ready"),
        "b": task("b", "pending", state_message="no worker"),
        "c": task("c", "failed"),
    }
    api.frames = CHATTER
    ran = watch(api)
    assert ran.code == 130
    assert ran.out.splitlines() == [
        "2026-01-29 10:15:02  a  ready",
        "2026-01-29 10:15:02  b  pending: no worker",
        "2026-01-29 10:15:02  a  ready -> running: it runs",
        "2026-01-29 10:15:02  a  artifact out/a (7 bytes)",
        "2026-01-29 10:15:02  a  error exit_nonzero: it ended with 3",
    ]
    assert sorted(asked[0]["filters"]) == ["artifact", "error", "state_change"]


def test_output_comes_in_whole_lines_when_it_is_asked_for(api: FakeApi) -> None:
    api.tasks["a"] = task("a", "ready")
    api.frames = CHATTER
    ran = watch(api, "a", "--output")
    assert ran.code == 1
    assert [text.split("  ", 2)[2] for text in ran.out.splitlines()] == [
        "ready",
        "ready -> running: it runs",
        "stdout: one",
        "stderr: warning",
        "stdout: two",
        "artifact out/a (7 bytes)",
        "error exit_nonzero: it ended with 3",
        "stdout: three",
        "completing -> failed: it ended with 3",
    ]


def test_a_line_without_an_end_is_not_held_back_for_ever(api: FakeApi) -> None:
    api.tasks["a"] = task("a", "running")
    api.frames = [frame("output", "a", stream="stdout", data="x" * LONGEST_LINE), *CHATTER[-1:]]
    assert f"stdout: {'x' * LONGEST_LINE}" in watch(api, "a", "--output", "--filter", "output").out


def test_only_the_types_asked_for_are_printed(api: FakeApi) -> None:
    api.tasks["a"] = task("a", "ready")
    api.frames = CHATTER
    ran = watch(api, "a", "--filter", "metrics,artifact")
    assert ran.code == 1
    assert [text.split("  ", 2)[2] for text in ran.out.splitlines()] == [
        "cpu 120 %, memory 1.2/8.0 G",
        "artifact out/a (7 bytes)",
    ]
    (asked,) = api.requests("GET", "/stream")
    assert dict(asked.query)["filter"] == "artifact,metrics,state_change"


def test_json_is_a_frame_a_line_and_nothing_else(api: FakeApi) -> None:
    api.tasks["a"] = task("a", "ready")
    api.frames = [*CHATTER[:-1], frame("gap", None, reason="removed"), CHATTER[-1]]
    found = [json.loads(text) for text in watch(api, "a", "--format", "json").out.splitlines()]
    assert [one["type"] for one in found] == [
        "state_change", "state_change", "metrics", "artifact", "error", "gap", "state_change",
    ]  # fmt: skip
    assert [one["id"] for one in found] == [None, "0-1", "0-3", "0-6", "0-7", "0-8", "0-9"]
    all_of_it = watch(api, "a", "--format", "json", "--output").out.splitlines()
    assert (
        "".join(one["data"] for one in map(json.loads, all_of_it) if one.get("stream") == "stdout")
        == "one\ntwo\r\nthree"
    )


def test_a_hostile_output_cannot_repaint_the_terminal(api: FakeApi) -> None:
    api.tasks["a"] = task("a", "ready")
    api.frames = [frame("output", "a", stream="stdout", data="\x1b[2J\x9b5n\x07x\n"), *CHATTER[-1:]]
    ran = watch(api, "a", "--output")
    assert ran.out.splitlines()[1].endswith("stdout: \\x9b5n\\x07x")


def test_states_and_labels_go_to_the_server(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = interrupted_after(monkeypatch, 0)
    assert watch(api, "-s", "failed", "-s", "running,failed", "--label", "team=platform").code == 130
    assert (asked[0]["states"], asked[0]["labels"]) == (("failed", "running"), {"team": "platform"})


# --- how it ends


def ended(name: str, state: str) -> dict[str, Any]:
    return changed(name, "completing", state)


@pytest.mark.parametrize(
    ("states", "code"),
    [
        (("completed", "completed"), 0),
        (("completed", "cancelled"), 6),
        (("cancelled", "failed"), 1),
        (("failed_preserved", "completed"), 1),
    ],
)
def test_with_ids_it_ends_with_the_last_of_them(states: tuple[str, str], code: int, api: FakeApi) -> None:
    api.tasks = {"a": task("a"), "b": task("b"), "c": task("c")}
    api.frames = [ended("a", states[0]), ended("c", "failed"), ended("b", states[1])]
    ran = watch(api, "a", "b", "a")
    assert ran.code == code
    assert [text.split()[2:] for text in ran.out.splitlines()] == [
        ["a", "running"],
        ["b", "running"],
        ["a", "completing", "->", states[0]],
        ["b", "completing", "->", states[1]],
    ]


def test_one_that_has_ended_before_is_told_once(api: FakeApi) -> None:
    api.tasks = {"a": task("a", "failed"), "b": task("b")}
    api.frames = [ended("b", "completed")]
    ran = watch(api, "a", "b")
    assert (ran.code, [text.split()[2:] for text in ran.out.splitlines()]) == (
        1,
        [["a", "failed"], ["b", "running"], ["b", "completing", "->", "completed"]],
    )


def test_when_all_have_ended_before_nothing_is_waited_for(api: FakeApi) -> None:
    api.tasks = {"a": task("a", "completed"), "b": task("b", "cancelled", outcome={"reason": "cancelled"})}
    ran = watch(api, "a", "b", "--format", "json")
    assert ran.code == 6
    found = [json.loads(text) for text in ran.out.splitlines()]
    assert [(one["type"], one["new_state"], one["preexisting"]) for one in found] == [
        ("state_change", "completed", True),
        ("state_change", "cancelled", True),
    ]
    assert found[1]["outcome"] == {"reason": "cancelled"}
    assert api.requests("GET", "/stream") == []


def test_an_end_between_the_look_and_the_stream_is_not_missed(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([task("a"), task("a", "completed")])
    monkeypatch.setattr(Client, "get", lambda *_: next(looks))
    api.tasks["a"] = task("a", "completed")
    ran = watch(api, "a")
    assert (ran.code, ran.out.split()[2:]) == (0, ["a", "completed"])


def test_an_end_that_was_lost_in_a_gap_is_not_missed(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([task("a"), task("b"), task("b", "failed")])
    monkeypatch.setattr(Client, "get", lambda *_: next(looks))
    api.tasks = {"a": task("a"), "b": task("b")}
    api.frames = [ended("a", "completed"), frame("gap", None, reason="removed")]
    ran = watch(api, "a", "b")
    assert ran.code == 1
    assert [text.split("  ", 1)[1] for text in ran.out.splitlines()] == [
        "a  running",
        "b  running",
        "a  completing -> completed",
        "-  gap: removed",
        "b  failed",
    ]


def test_an_unknown_id_is_3_before_anything_is_shown(api: FakeApi) -> None:
    api.tasks["a"] = task("a")
    ran = watch(api, "a", "nope")
    assert (ran.code, ran.out) == (3, "")
    assert "no task nope" in ran.err
    assert api.requests("GET", "/stream") == []


def test_an_older_server_says_that_it_is_to_be_upgraded(api: FakeApi) -> None:
    api.has_event_stream = False
    ran = watch(api)
    assert (ran.code, ran.out) == (4, "")
    assert "older than this client. Upgrade it" in ran.err


@pytest.mark.parametrize(
    "args",
    [["a", "-s", "running"], ["a", "--label", "a=1"], ["--label", "a=1", "--label", "a=2"], ["--filter", "outputs"]],
)
def test_options_that_cannot_be_meant_are_usage_errors(args: list[str]) -> None:
    assert sandbox("task", "watch", *args).code == 2


# --- on a terminal


def test_a_terminal_shows_a_picture_until_ctrl_c(api: FakeApi) -> None:
    api.tasks = {"a": task("a", progress={"percent": 25}), "b": task("b", "pending", name="Next one")}
    api.frames = [frame("metrics", "a", metrics=METRICS), frame("output", "a", stream="stdout", data="\x1b[31mhello\n")]
    with OnTerminal("task", "watch", "--server", api.url) as shown:
        shown.until("hello")
        assert shown.screen.lines[0] == "1 active · 1 waiting"
        assert [words in shown.screen.lines[2] for words in ("● running", "a", "25 %", "120 %", "1.2/8.0 G")] == [
            True
        ] * 5
        assert shown.screen.lines[3].startswith("○ pending")
        assert "\x1b[?25l" in shown.raw  # no cursor blinks in the picture
        api.frames.append(changed("b", "pending", "staging"))
        shown.until("● staging")
        assert shown.interrupt() == 130
        assert shown.screen.cursor_is_shown
        assert shown.screen.lines[-1] == "Interrupted."
        assert shown.screen.text.count("● running") == 1


def test_a_picture_of_named_tasks_ends_with_them_and_stays(api: FakeApi) -> None:
    api.tasks = {"a": task("a"), "b": task("b", "completed"), "c": task("c", name="Other")}
    with OnTerminal("task", "watch", "a", "b", "--server", api.url, env={"NO_COLOR": "1"}) as shown:
        shown.until("● running")
        api.frames.append(changed("a", "completing", "failed"))
        assert shown.end() == 1
        assert shown.screen.lines[0] == "2 ended"
        assert {text.split()[1] for text in shown.screen.lines[2:4]} == {"failed", "completed"}
        assert "Other" not in shown.screen.text
        assert "\x1b[3" not in shown.raw.replace("\x1b[3A", "").replace("\x1b[3m", "")


def test_a_state_that_was_not_asked_for_leaves_the_picture(api: FakeApi) -> None:
    api.tasks = {"a": task("a"), "b": task("b", "ready")}
    with OnTerminal("task", "watch", "-s", "running", "--server", api.url) as shown:
        shown.until("● running")
        assert "ready" not in shown.screen.text
        api.frames.append(changed("a", "running", "completing"))
        shown.until("no tasks")
        shown.interrupt()


@pytest.mark.parametrize("args", [["--output"], ["--filter", "state_change"], ["--format", "json"]])
def test_who_asks_for_lines_gets_lines_on_a_terminal_too(args: list[str], api: FakeApi) -> None:
    api.tasks["a"] = task("a", "ready")
    api.frames = CHATTER
    with OnTerminal("task", "watch", "a", *args, "--server", api.url) as shown:
        assert shown.end() == 1
        assert "\x1b" not in shown.raw
        assert "completing" in shown.screen.text


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(api: FakeApi) -> None:
    api.tasks["a"] = task("a", "ready")
    api.frames = CHATTER
    with OnTerminal("task", "watch", "a", "--server", api.url, env={"TERM": "dumb"}) as shown:
        assert shown.end() == 1
        assert "\x1b" not in shown.raw


def test_a_watched_status_shows_what_is_used_as_it_changes(api: FakeApi) -> None:
    api.tasks["t"] = task("t")
    api.frames = [frame("metrics", "t", metrics=METRICS), frame("progress", "t", progress={"percent": 40, "text": "x"})]
    with OnTerminal("task", "status", "t", "-w", "--server", api.url) as shown:
        shown.until("40 % x")
        assert "120 %" in shown.screen.text
        assert "1.2/8.0 G" in shown.screen.text
        api.tasks["t"] = task("t", "completed", exit_code=0)
        api.frames.append(changed("t", "completing", "completed"))
        assert shown.end() == 0
        assert shown.screen.text.count("exit code") == 1
        assert "running" not in shown.screen.text


def test_a_watched_list_shows_a_change_on_a_terminal(api: FakeApi) -> None:
    api.tasks["t"] = task("t")
    with OnTerminal("task", "list", "--watch", "--server", api.url, columns=140) as shown:
        shown.until("running")
        api.tasks["t"] = task("t", "completed")
        api.frames.append(changed("t", "completing", "completed"))
        shown.until("completed")
        assert shown.interrupt() == 130
        assert "running" not in shown.screen.text
