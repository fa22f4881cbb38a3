"""The line beneath a followed log: what it says, where it is drawn, and that nothing of it is left."""

from __future__ import annotations

import io
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from api.client import Event, LogRecord
from api.commands.phase_line import Phase
from api.commands.status_line import StatusLine
from tests.unit.fake_api import FakeApi, change, end, event, frame, line, task
from tests.unit.on_terminal import OnTerminal
from tests.unit.screen import Screen
from tests.unit.test_cli import MANIFEST, ends, on_terminal, sandbox

METRICS = {
    "cpu_percent": 120.4,
    "memory_used_bytes": 1.2 * (1 << 30),
    "memory_total_bytes": 8 << 30,
    "disk_used_bytes": 5 << 20,
    "disk_total_bytes": 40 << 30,
}
PROGRESS = {"percent": 40, "text": "tests", "current_tool": None}
USED = "cpu 120 % · memory 1.2/8.0 G · 40 % tests"


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def told(kind: str, **body: Any) -> Event:
    return Event("0-1", kind, "t", {"type": kind, "task_id": "t", "attempt": 1, **body})


def to(state: str, **more: Any) -> LogRecord:
    return LogRecord("1", "event", {"type": "state_change", "new_state": state, **more})


# --- what it says


def test_the_phase_says_state_time_use_and_progress() -> None:
    clock = Clock()
    phase = Phase("pending", clock)
    clock.seconds += 65
    assert phase.line(80, coloured=False) == "● pending 01:05"
    phase.take_record(to("running"))
    phase.take_event(told("metrics", metrics=METRICS))
    phase.take_event(told("progress", progress=PROGRESS))
    clock.seconds += 42
    assert phase.line(80, coloured=False) == f"● running 00:42 · {USED}"


def test_use_is_shown_while_the_command_runs_and_progress_while_the_attempt_lasts() -> None:
    phase = Phase("pending", Clock())
    phase.take_event(told("metrics", metrics=METRICS))  # the event stream may be ahead of the log
    phase.take_event(told("progress", progress=PROGRESS))
    assert phase.line(80, coloured=False) == "● pending 00:00"
    phase.take_record(to("running", attempt=1))
    assert phase.line(80, coloured=False) == f"● running 00:00 · {USED}"
    phase.take_record(to("completing", attempt=1))
    assert phase.line(80, coloured=False) == "● completing 00:00 · 40 % tests"
    phase.take_record(to("pending", attempt=1))
    assert phase.line(80, coloured=False) == "● pending 00:00"
    phase.take_record(to("running", attempt=2))
    assert phase.line(80, coloured=False) == "● running 00:00 · attempt 2"
    phase.take_event(told("progress", progress=PROGRESS, attempt=2))
    assert phase.line(80, coloured=False) == "● running 00:00 · attempt 2 · 40 % tests"


def test_other_records_do_not_touch_the_phase() -> None:
    phase = Phase("running", Clock())
    phase.take_record(LogRecord("1", "stdout", {"data": "new_state"}))
    phase.take_record(LogRecord("2", "event", {"type": "message", "text": "x"}))
    assert phase.line(80, coloured=False) == "● running 00:00"


@pytest.mark.parametrize(("width", "shown"), [(24, "● running 00:00 · cpu…"), (10, "● runnin…"), (1, "…"), (0, "…")])
def test_a_narrow_terminal_gets_as_much_as_fits(width: int, shown: str) -> None:
    phase = Phase("running", Clock())
    phase.take_event(told("metrics", metrics=METRICS))
    assert phase.line(width, coloured=True).replace("\x1b[36m", "").replace("\x1b[0m", "") == shown


def test_wide_characters_take_two_cells() -> None:
    phase = Phase("running", Clock())
    phase.take_event(told("progress", progress={"percent": None, "text": "漢字" * 20}))
    assert phase.line(24, coloured=False) == "● running 00:00 · 漢字…"


@pytest.mark.parametrize(
    ("state", "code"), [("running", 36), ("pending", 36), ("completed", 32), ("failed", 31), ("cancelled", 33)]
)
def test_each_state_has_its_colour(state: str, code: int) -> None:
    assert Phase(state, Clock()).line(80, coloured=True) == f"\x1b[{code}m● {state} 00:00\x1b[0m"


def test_a_hostile_progress_cannot_repaint_the_terminal() -> None:
    phase = Phase("running", Clock())
    phase.take_event(told("progress", progress={"percent": None, "text": "\x1b[2Ja\nb\x07\x9b1m"}))
    assert phase.line(80, coloured=False) == "● running 00:00 · a\\nb\\x07\\x9b1m"


# --- how it is drawn


class Terminal(io.StringIO):
    """Shows on a screen what is written on it."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self.screen = screen
        self.lock = threading.Lock()

    def write(self, text: str) -> int:
        with self.lock:
            self.screen.feed(text.replace("\n", "\r\n"))
        return len(text)

    def lines(self) -> list[str]:
        with self.lock:
            return self.screen.lines


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it has not come to pass"
        time.sleep(0.01)


def test_lines_scroll_above_and_nothing_of_the_line_stays() -> None:
    terminal = Terminal(Screen(columns=40, rows=5))
    printed = []
    with StatusLine(terminal, lambda _: "STATUS") as status:
        for number in range(12):
            with status.lifted():
                assert "STATUS" not in terminal.screen.text
                terminal.write(f"line {number}\n")
            printed.append(f"line {number}")
            until(lambda: terminal.lines()[-1] == "STATUS")
            assert terminal.screen.text.replace("\nSTATUS", "").split() == "\n".join(printed).split()
    assert [text for text in terminal.screen.text.split("\n") if text] == printed


def test_a_line_that_is_not_finished_goes_on_where_it_was() -> None:
    terminal = Terminal(Screen(columns=40, rows=3))
    with StatusLine(terminal, lambda _: "STATUS") as status:
        for part in ("one\ntwo\n", "three", ", four", ", five"):
            with status.lifted():
                terminal.write(part)
            until(lambda: terminal.lines()[-1] == "STATUS")
    assert terminal.screen.text.split("\n") == ["one", "two", "three, four, five"]


def test_many_lines_are_not_held_up_by_drawing() -> None:
    terminal = Terminal(Screen())
    drawn = []

    def make(width: int) -> str:
        drawn.append(width)
        return "STATUS"

    with StatusLine(terminal, make) as status:
        for number in range(5000):
            with status.lifted():
                terminal.write(f"line {number}\n")
    assert terminal.screen.text.split() == [word for number in range(5000) for word in ("line", str(number))]
    assert len(drawn) < 1000


def test_an_error_takes_the_line_away_too() -> None:
    terminal = Terminal(Screen())

    def interrupted() -> None:
        with StatusLine(terminal, lambda _: "STATUS"):
            until(lambda: "STATUS" in terminal.lines())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert terminal.lines() == [""]


def test_a_terminal_that_is_gone_is_no_trouble() -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(5, "Input/output error")

    line = StatusLine(Gone(), lambda _: "STATUS")
    with line:
        line._drawing.join(timeout=20)
        assert not line._drawing.is_alive()


# --- the command on a terminal


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as running:
        yield running


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "task.yaml"
    path.write_text(MANIFEST)
    return str(path)


@pytest.fixture
def running(api: FakeApi) -> FakeApi:
    """The task that will be submitted runs, and does not end."""
    api.on_submit = lambda _: task("task-001", "running")
    api.records["task-001"] = [change("ready", "running"), line("one\n"), line("two")]
    api.frames = [frame("metrics", "task-001", metrics=METRICS), frame("progress", "task-001", progress=PROGRESS)]
    return api


def follow(api: FakeApi, manifest: str) -> tuple[str, ...]:
    return "task", "submit", manifest, "--follow", "--server", api.url


def test_a_terminal_shows_the_phase_beneath_the_log_and_ctrl_c_takes_it_away(running: FakeApi, manifest: str) -> None:
    with OnTerminal(*follow(running, manifest)) as shown:
        shown.until(USED)
        assert shown.screen.lines[-2:][0] == "two"
        assert shown.screen.lines[-1].startswith("● running 00:")
        assert "\x1b[36m● running" in shown.raw
        assert shown.interrupt() == 130
        assert shown.screen.lines[:4] == ["task-001 pending: accepted", "ready -> running", "one", "two"]
        assert "sandbox task cancel task-001" in shown.screen.text
        assert "●" not in shown.screen.text
        assert "Traceback" not in shown.screen.text


def test_without_colour_the_line_is_drawn_all_the_same(running: FakeApi, manifest: str) -> None:
    with OnTerminal(*follow(running, manifest), env={"NO_COLOR": "1"}) as shown:
        shown.until(USED)
        shown.interrupt()
        assert "m●" not in shown.raw


def test_a_narrow_terminal_keeps_the_line_on_one_line(running: FakeApi, manifest: str) -> None:
    with OnTerminal(*follow(running, manifest), columns=30) as shown:
        shown.until("· cpu 120 %…")
        assert shown.screen.lines[-2] == "two"
        shown.interrupt()
        assert "●" not in shown.screen.text


def test_a_terminal_that_cannot_move_its_cursor_has_no_line(running: FakeApi, manifest: str) -> None:
    with OnTerminal(*follow(running, manifest), env={"TERM": "dumb"}) as shown:
        shown.until("two")
        shown.interrupt()
        assert "●" not in shown.raw
        assert "\x1b" not in shown.raw


def test_the_log_goes_to_a_file_and_the_phase_to_the_terminal(running: FakeApi, manifest: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as written, OnTerminal(*follow(running, manifest), stdout=written) as shown:
        shown.until(USED)
        assert shown.interrupt() == 130
    assert log.read_bytes() == b"one\ntwo"
    assert "●" not in shown.screen.text
    assert shown.screen.lines[:2] == ["task-001 pending: accepted", "ready -> running"]


def test_the_notes_go_to_a_file_and_the_phase_beneath_the_log(running: FakeApi, manifest: str, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with notes.open("wb") as written, OnTerminal(*follow(running, manifest), stderr=written) as shown:
        shown.until(USED)
        assert shown.interrupt() == 130
    assert shown.screen.lines == ["one", "two"]
    assert notes.read_text().splitlines()[:2] == ["task-001 pending: accepted", "ready -> running"]


def test_where_a_pipe_is_read_by_another_program_nothing_is_drawn(api: FakeApi, manifest: str) -> None:
    ends(api, "completed", 0, line("one\n"), line("\x1b[1mtwo"))
    with OnTerminal(*follow(api, manifest), stdout=subprocess.PIPE) as shown:
        assert shown.process.stdout is not None
        with shown.process.stdout as read:
            assert read.read() == b"one\n\x1b[1mtwo"
        assert shown.end() == 0
        assert "\x1b" not in shown.raw
        assert api.requests("GET", "/stream") == []


def test_in_a_pipe_and_as_json_the_event_stream_is_not_asked(api: FakeApi, manifest: str) -> None:
    ends(api, "completed", 0, line("one\n"))
    ran = sandbox("task", "submit", manifest, "--follow", server=api.url)
    assert (ran.code, ran.out) == (0, "one\n")
    code, shown = on_terminal(*follow(api, manifest), "--format", "json")
    assert (code, [json.loads(text)["task_id"] for text in shown.splitlines()[-1:]]) == (0, ["task-001"])
    assert "\x1b" not in shown
    assert api.requests("GET", "/stream") == []


def test_an_agent_is_followed_with_the_phase_beneath_the_conversation(api: FakeApi, manifest: str) -> None:
    api.on_submit = lambda _: task("task-001", "running", definition={"claude": {"prompt": "x"}})
    api.records["task-001"] = [change("ready", "running"), event("message", text="I begin.")]
    api.frames = [frame("metrics", "task-001", metrics=METRICS)]
    with OnTerminal(*follow(api, manifest)) as shown:
        shown.until("cpu 120 %")
        assert "I begin." in shown.screen.lines
        shown.interrupt()
        assert "●" not in shown.screen.text


def test_a_server_without_an_event_stream_costs_the_use_and_nothing_else(running: FakeApi, manifest: str) -> None:
    running.has_event_stream = False
    with OnTerminal(*follow(running, manifest)) as shown:
        shown.until("● running 00:01")
        assert shown.interrupt() == 130
        assert "older than this client" not in shown.screen.text


@pytest.mark.parametrize("verb", ["submit", "rerun"])
def test_the_hint_of_a_failed_task_is_the_last_thing_that_is_read(verb: str, api: FakeApi, manifest: str) -> None:
    api.tasks["old"] = task("old", "failed")
    outcome = {"reason": "exit_nonzero", "message": "the command ended with 3", "hint": "docker exec …\nlook"}
    ends(api, "failed", 3, line("the reason"), outcome=outcome)
    of = manifest if verb == "submit" else "old"
    with OnTerminal("task", verb, of, "--follow", "--server", api.url) as shown:
        assert shown.end() == 1
        assert shown.screen.lines[-5:] == [
            "running -> failed",
            "Task task-001 failed (exit code 3)",
            "exit_nonzero: the command ended with 3",
            "docker exec …",
            "look",
        ]
        assert shown.screen.text.count("the reason") == 1


def test_the_end_of_a_log_ends_the_line_that_was_begun(api: FakeApi, manifest: str) -> None:
    api.on_submit = lambda _: task("task-001", "completed", exit_code=0)
    api.records["task-001"] = [line("no line end"), end("completed", 0)]
    with OnTerminal(*follow(api, manifest)) as shown:
        assert shown.end() == 0
        assert shown.screen.lines[-2:] == ["no line end", "Task task-001 completed (exit code 0)"]
