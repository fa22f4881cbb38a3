"""The `sandbox` command: every verb, every exit code, and JSON alone where JSON is asked for."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from api.client import Client, Event, ServerUnreachable
from orchestrator import cli
from orchestrator.cli import CommandFailed, Deferred, deferred, make_root
from tests.unit.fake_api import AT, FakeApi, Refusal, Seen, change, changed, end, frame, line, task

ROOT = make_root(
    {
        "task": deferred("api.commands.task:task", "tasks"),
        "workers": deferred("api.commands.fleet:workers", "fleet"),
        "missing": deferred("no_such_package.commands:up", "a part that is not there"),
        "wrong": Deferred("no command at all", lambda: 7),
    }
)
MANIFEST = 'version: "1"\nkind: Task\nmetadata: {name: x}\nrun: {command: ["true"]}\n'


@dataclass
class Ran:
    code: int
    out: str
    err: str


def sandbox(*args: str, server: str = "http://127.0.0.1:1", stdin: str = "", root: click.Group = ROOT) -> Ran:
    env = {"SANDBOX_SERVER": server, "SANDBOX_TOKEN": "", "NO_COLOR": "1"}
    with CliRunner().isolation(input=stdin, env=env) as (out, err, _):
        code = cli.run(list(args), root)
        sys.stdout.flush()
        return Ran(code, out.getvalue().decode(), err.getvalue().decode())


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as running:
        yield running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.commands.watching.POLL_SECONDS", 0)


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "task.yaml"
    path.write_text(MANIFEST)
    return str(path)


def ends(api: FakeApi, state: str, code: int | None, *output: tuple[str, dict[str, Any]], **more: Any) -> None:
    """Let the next submission become a task that ends so."""
    api.on_submit = lambda _: task("task-001", state, exit_code=code, **more)
    phases = [change("pending", "running"), *output, change("running", state)]
    api.records["task-001"] = [*phases, end(state, code)]


# --- the root


def test_help_imports_no_command() -> None:
    ran = sandbox("--help")
    assert ran.code == 0
    assert "a part that is not there" in ran.out
    assert "no command at all" in ran.out


def test_the_version_is_one_line() -> None:
    assert sandbox("--version").out == f"sandbox {cli.product_version()}\n"


@pytest.mark.parametrize(
    ("name", "why"), [("missing", "No module named 'no_such_package'"), ("wrong", "no command but 7")]
)
def test_a_part_that_cannot_be_loaded_says_so_and_spares_the_others(name: str, why: str, api: FakeApi) -> None:
    ran = sandbox(name, "start")
    assert (ran.code, ran.out) == (70, "")
    assert why in ran.err
    assert "The other commands are not affected" in ran.err
    assert "Traceback" not in ran.err
    assert sandbox("workers", "list", server=api.url).code == 0


def test_a_misspelt_command_is_a_usage_error_with_a_suggestion() -> None:
    ran = sandbox("task", "sumbit")
    assert ran.code == 2
    assert "did you mean 'submit'" in ran.err


def test_a_fault_of_the_program_is_70_and_shows_its_traceback_only_on_request() -> None:
    @click.command()
    def broken() -> None:
        raise RuntimeError("boom")

    root = make_root({"broken": Deferred("x", lambda: broken)})
    ran = sandbox("broken", root=root)
    assert ran.code == 70
    assert "RuntimeError: boom" in ran.err
    assert "Traceback" not in ran.err
    assert "Traceback" in sandbox("--debug", "broken", root=root).err


def test_a_local_fault_and_a_known_error_end_with_their_codes() -> None:
    @click.command()
    @click.argument("kind")
    def failing(kind: str) -> None:
        if kind == "os":
            raise PermissionError(13, "Permission denied", "/x")
        raise CommandFailed("no.", 9)

    root = make_root({"failing": Deferred("x", lambda: failing)})
    ran = sandbox("failing", "os", root=root)
    assert ran.code == 70
    assert "/x" in ran.err
    assert "fault of the program" not in ran.err
    assert sandbox("failing", "known", root=root).code == 9


def test_installed_commands_come_from_the_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("task", "api.commands.task:task", cli.COMMAND_GROUP)]
    monkeypatch.setattr(cli, "entry_points", lambda group: points if group == "sandbox.commands" else [])
    found = cli.installed_commands()
    assert found["task"].summary == cli.SUMMARIES["task"]
    assert isinstance(found["task"].load(), click.Group)


def test_without_any_entry_point_the_message_says_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "entry_points", lambda **_: [])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 70
    assert "pip install" in capsys.readouterr().err


# --- options every client command takes


def test_a_server_that_is_not_there_is_5() -> None:
    ran = sandbox("task", "list")
    assert (ran.code, ran.out) == (5, "")
    assert "sandbox up" in ran.err


def test_an_unusable_address_is_a_usage_error() -> None:
    assert sandbox("task", "list", "--server", "nonsense").code == 2


def test_the_token_is_sent_and_the_option_wins(api: FakeApi) -> None:
    env = {"SANDBOX_SERVER": "http://127.0.0.1:1", "SANDBOX_TOKEN": "from-env"}
    with CliRunner().isolation(env=env):
        assert cli.run(["workers", "list", "-s", api.url], ROOT) == 0
        assert cli.run(["workers", "list", "-s", api.url, "--token", "given"], ROOT) == 0
    assert [one.headers["authorization"] for one in api.seen] == ["Bearer from-env", "Bearer given"]


@pytest.mark.parametrize(
    "verb",
    ["submit", "rerun", "list", "status", "watch", "logs", "network", "cancel", "purge", "artifacts", "download"],
)
def test_every_client_verb_takes_server_token_and_format(verb: str) -> None:
    shown = sandbox("task", verb, "--help").out
    assert all(option in shown for option in ("--server", "--token", "--format [text|json|table]"))
    assert ("-s, --server" in shown) == (verb not in {"list", "watch"})


# --- submit and rerun


def test_submit_sends_the_file_and_prints_the_id(api: FakeApi, manifest: str) -> None:
    ran = sandbox("task", "submit", manifest, server=api.url)
    assert (ran.code, ran.out) == (0, "task-001 pending: accepted\n")
    sent = api.seen[0]
    assert (sent.body.decode(), sent.headers["content-type"]) == (MANIFEST, "application/yaml")
    assert len(sent.headers["idempotency-key"]) == 36


def test_submit_reads_standard_input_and_recognises_json(api: FakeApi) -> None:
    assert sandbox("task", "submit", "-", server=api.url, stdin='{"version": "1"}').code == 0
    assert sandbox("task", "submit", "-", server=api.url, stdin="{version: 1}").code == 0
    assert [one.headers["content-type"] for one in api.seen] == ["application/json", "application/yaml"]


def test_submit_changes_the_manifest_first(api: FakeApi, manifest: str) -> None:
    ran = sandbox("task", "submit", manifest, "--set", "vm.memory=2G", "--set", "priority=5", server=api.url)
    assert ran.code == 0
    assert '"vm": {"memory": "2G"}' in api.seen[0].body.decode()
    assert '"priority": 5' in api.seen[0].body.decode()


def test_submit_of_a_missing_file_or_a_bad_assignment_is_a_usage_error(manifest: str) -> None:
    assert sandbox("task", "submit", "/nonexistent.yaml").code == 2
    assert sandbox("task", "submit", manifest, "--set", "vm").code == 2
    ran = sandbox("task", "submit", manifest, "--set", "version.x=1")
    assert ran.code == 2
    assert "--set version.x" in ran.err


def test_a_change_to_text_that_is_no_document_names_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("a: 1\na: 2\n")
    ran = sandbox("task", "submit", str(path), "--set", "b=1")
    assert ran.code == 2
    assert f"{path}:2:1: the key 'a' stands twice" in ran.err


def test_a_refused_manifest_shows_every_mistake_with_its_place(api: FakeApi, manifest: str) -> None:
    errors = [
        {"field": "vm.cpu", "line": 5, "column": 3, "message": "unknown field", "suggestion": "cpus"},
        {"field": "kind", "line": None, "column": None, "message": "is missing"},
        {"field": "run", "line": None, "message": "run has no command; write script", "suggestion": "script"},
        {"field": "kind", "line": 2, "column": 7, "message": 'kind is "task"; write "Task"', "suggestion": "Task"},
    ]

    def refuse(seen: Seen) -> dict[str, Any]:
        raise Refusal(400, "invalid_manifest", "The manifest is not valid: unknown field.", {"errors": errors})

    api.on_submit = refuse
    ran = sandbox("task", "submit", manifest, server=api.url, root=ROOT)
    assert (ran.code, ran.out) == (4, "")
    assert ran.err.splitlines() == [
        "Error: the manifest is not valid; nothing was started (400 invalid_manifest, request req-1)",
        f"{manifest}:5:3: unknown field (did you mean cpus?)",
        f"{manifest}: kind: is missing",
        f"{manifest}: run has no command; write script",
        f'{manifest}:2:7: kind is "task"; write "Task"',
    ]


def test_a_dry_run_prints_the_manifest_and_starts_nothing(api: FakeApi, manifest: str) -> None:
    assert sandbox("task", "submit", manifest, "--dry-run", server=api.url).out.splitlines()[1] == "kind: Task"
    ran = sandbox("task", "submit", manifest, "--dry-run", "--format", "json", server=api.url)
    assert json.loads(ran.out)["kind"] == "Task"
    assert api.tasks == {}


def test_options_that_contradict_each_other_are_usage_errors(manifest: str) -> None:
    for args in (["--dry-run", "--wait"], ["--timeout", "5s"], ["--wait", "--timeout", "soon"]):
        assert sandbox("task", "submit", manifest, *args).code == 2


def test_waiting_for_a_completed_task_is_0_and_prints_its_states(api: FakeApi, manifest: str) -> None:
    ends(api, "completed", 0, line("not shown\n"))
    ran = sandbox("task", "submit", manifest, "--wait", server=api.url)
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "task-001 pending: accepted",
        "2026-01-29 10:15:02  pending -> running",
        "2026-01-29 10:15:02  running -> completed",
        "Task task-001 completed (exit code 0)",
    ]


@pytest.mark.parametrize("state", ["failed", "failed_preserved"])
def test_waiting_for_a_failed_task_is_1_and_shows_why(state: str, api: FakeApi, manifest: str) -> None:
    outcome = {
        "reason": "exit_nonzero",
        "message": "the command ended with 3",
        "hint": "docker exec ...\nlook",
    }
    ends(api, state, 3, line("first\n"), line("last words\n", "stderr"), outcome=outcome)
    ran = sandbox("task", "submit", manifest, "-w", server=api.url)
    assert ran.code == 1
    assert "last words" in ran.err
    assert "exit_nonzero: the command ended with 3" in ran.err
    assert ran.err.endswith("docker exec ...\nlook\n")


def test_waiting_for_a_cancelled_task_is_6(api: FakeApi, manifest: str) -> None:
    ends(api, "cancelled", None)
    assert sandbox("task", "submit", manifest, "-w", server=api.url).code == 6


def test_waiting_too_long_is_124_and_the_task_goes_on(api: FakeApi, manifest: str) -> None:
    api.records["task-001"] = [change("pending", "running")]
    ran = sandbox("task", "submit", manifest, "-w", "--timeout", "1s", server=api.url)
    assert ran.code == 124
    assert "It goes on" in ran.err
    assert api.requests("DELETE", "") == []


def test_an_interrupt_while_waiting_is_130_and_says_how_to_cancel(
    api: FakeApi, manifest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "wait_for_end", interrupted)
    ran = sandbox("task", "submit", manifest, "--wait", server=api.url)
    assert ran.code == 130
    assert "sandbox task cancel task-001" in ran.err


def test_an_interrupt_anywhere_else_is_130(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "get", interrupted)
    assert sandbox("task", "status", "t", server=api.url).code == 130


def test_following_prints_what_the_task_prints_and_nothing_else(api: FakeApi, manifest: str) -> None:
    ends(
        api,
        "completed",
        0,
        line("one\n"),
        line("\x1b[1mtwo", "stderr"),
        line("system words", "system"),
        line("\r\n"),
    )
    api.cut_logs_after = [2, 1]
    ran = sandbox("task", "submit", manifest, "--follow", server=api.url)
    assert (ran.code, ran.out) == (0, "one\n\x1b[1mtwo\r\n")
    assert "pending -> running" in ran.err
    assert "system words" in ran.err
    assert "Task task-001 completed" in ran.err


def test_following_a_failed_task_does_not_repeat_its_log(api: FakeApi, manifest: str) -> None:
    ends(api, "failed", 1, line("the reason\n"), outcome={"reason": "exit_nonzero", "message": "m"})
    ran = sandbox("task", "submit", manifest, "--follow", server=api.url)
    assert (ran.code, ran.out) == (1, "the reason\n")
    assert "the reason" not in ran.err


def test_json_is_alone_on_stdout_of_submit_in_every_form(api: FakeApi, manifest: str) -> None:
    ends(api, "failed", 1, line("x\n"), outcome={"reason": "exit_nonzero", "message": "m"})
    args = ("task", "submit", manifest, "--format", "json")
    assert json.loads(sandbox(*args, server=api.url).out)["task_id"] == "task-001"
    waited = sandbox(*args, "--wait", server=api.url)
    assert (waited.code, json.loads(waited.out)["state"]) == (1, "failed")
    followed = sandbox(*args, "--follow", server=api.url)
    documents = [json.loads(text) for text in followed.out.splitlines()]
    assert documents[0]["state"] == "pending"
    assert [one["stream"] for one in documents[1:-1]] == ["event", "stdout", "event"]
    assert documents[-1]["outcome"]["reason"] == "exit_nonzero"


def test_rerun_sends_a_merge_patch_and_waits(api: FakeApi) -> None:
    api.tasks["old"] = task("old", "failed")
    ends(api, "completed", 0)
    ran = sandbox("task", "rerun", "old", "--set", "vm.cpus=2", "--set", "run.command[2]=false", "-w", server=api.url)
    assert ran.code == 0
    sent = json.loads(api.requests("POST", "/rerun")[0].body)
    assert sent == {"vm": {"cpus": 2}, "run": {"command": ["sh", "-c", "false"]}}


def test_a_plain_rerun_sends_no_patch(api: FakeApi) -> None:
    api.tasks["old"] = task("old", "failed")
    assert sandbox("task", "rerun", "old", "--format", "json", server=api.url).code == 0
    assert api.requests("POST", "/rerun")[0].body == b""


# --- list, status


def test_list_filters_and_says_that_there_is_more(api: FakeApi) -> None:
    api.tasks["t"] = task("t", state_message="bad\x1b[2J\ntext")
    ran = sandbox("task", "list", "-s", "running,pending", "--label", "team=platform", "--limit", "7", server=api.url)
    assert ran.code == 0
    heading, row = ran.out.splitlines()
    assert heading.split() == ["ID", "STATE", "CREATED", "WORKER", "NAME", "MESSAGE"]
    assert row.startswith("t   running")
    assert "\\x1b[2J\\ntext" in row
    assert "1 of 2 tasks" in ran.err
    assert api.seen[0].query == [("state", "running,pending"), ("label", "team=platform"), ("limit", "7")]


def test_list_as_json_and_as_table(api: FakeApi) -> None:
    api.tasks["t"] = task("t", name="[bold]x")
    assert json.loads(sandbox("task", "list", "--format", "json", server=api.url).out)["total_count"] == 2
    shown = sandbox("task", "list", "--format", "table", server=api.url).out
    assert "[bold]x" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    "args", [["-s", "runing"], ["--label", "team"], ["--limit", "0"], ["--label", "a=1", "--label", "a=2"]]
)
def test_a_list_with_a_bad_filter_is_a_usage_error(args: list[str]) -> None:
    assert sandbox("task", "list", *args).code == 2


def test_a_watched_list_prints_changes_until_it_is_interrupted(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = [task("a"), task("b")], [task("a", "completed"), task("b")]
    pages = iter([first, first, second])
    api.tasks = {"a": task("a"), "b": task("b", labels={})}
    api.frames = [
        frame("event", "a", event={"type": "message", "text": "changes nothing"}),
        changed("b", "running", "completed"),
        changed("a", "running", "completed"),
        changed("a", "running", "completed"),
    ]

    def page(*_: Any, **__: Any) -> dict[str, Any]:
        try:
            return {"tasks": next(pages)}
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(Client, "list", page)
    ran = sandbox("task", "list", "--watch", "--label", "team=platform", server=api.url)
    assert ran.code == 130
    assert [text.split()[2:] for text in ran.out.splitlines()] == [
        ["b", "running"],
        ["a", "running"],
        ["a", "completed"],
    ]


def test_a_watched_list_is_read_once_for_many_changes(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.commands.watching.POLL_SECONDS", 3600)
    monkeypatch.setattr("api.commands.watching.STALE_SECONDS", 3600)

    def events(*_: Any, **__: Any) -> Iterator[Event]:
        yield from [Event("0-1", "state_change", "a", changed("a", "running", "completed"))] * 50
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "events", events)
    assert sandbox("task", "list", "--watch", server=api.url).code == 130
    assert len(api.requests("GET", "/tasks")) == 1


def test_status_shows_outcome_and_hint(api: FakeApi) -> None:
    outcome = {"reason": "oom_killed", "message": "memory ran out", "hint": "ask for more"}
    api.tasks["t"] = task("t", "failed", exit_code=137, outcome=outcome)
    ran = sandbox("task", "status", "t", server=api.url)
    assert "exit code:   137" in ran.out
    assert "reason:      oom_killed" in ran.out
    assert "team=platform" in ran.out
    assert "2.0 KiB" in ran.out
    assert json.loads(sandbox("task", "status", "t", "--format", "json", server=api.url).out)["outcome"] == outcome
    assert "oom_killed" in sandbox("task", "status", "t", "--format", "table", server=api.url).out


def test_a_watched_status_ends_with_what_to_do_about_a_failure(api: FakeApi) -> None:
    outcome = {"reason": "oom_killed", "message": "memory ran out", "hint": "ask for more"}
    api.tasks["t"] = task("t", "failed", outcome=outcome)
    ran = sandbox("task", "status", "t", "--watch", server=api.url)
    assert ran.code == 0
    assert ran.err.splitlines()[-1] == "ask for more"


def test_a_verb_of_tasks_that_is_given_alone_is_told_where_it_is() -> None:
    ran = sandbox("submit")
    assert ran.code == 2
    assert "there is no command 'submit'; what is done with tasks is below `sandbox task`." in ran.err


def test_status_of_an_unknown_task_is_3(api: FakeApi) -> None:
    ran = sandbox("task", "status", "nope", "--format", "json", server=api.url)
    assert (ran.code, ran.out) == (3, "")
    assert "no task nope" in ran.err


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_watched_status_prints_each_change_and_ends_with_the_task(
    form: str, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = iter(["pending", "pending", "running", "completed"])
    monkeypatch.setattr(Client, "get", lambda *_: task("t", next(states)))
    api.tasks["t"] = task("t", "pending")
    api.frames = [
        changed("t", "ready", "running"),
        frame("event", "t", event={"type": "message", "text": "changes nothing"}),
        changed("t", "completing", "completed"),
    ]
    ran = sandbox("task", "status", "t", "-w", "--format", form, server=api.url)
    assert ran.code == 0
    lines = ran.out.splitlines()
    found = [json.loads(text)["state"] if form == "json" else text.split()[-1] for text in lines]
    assert found == ["pending", "running", "completed"]


def test_a_task_that_has_ended_before_it_is_watched_is_told_at_once(api: FakeApi) -> None:
    api.tasks["t"] = task("t", "failed")
    ran = sandbox("task", "status", "t", "-w", server=api.url)
    assert (ran.code, ran.out.split()[2:]) == (0, ["t", "failed"])
    assert api.requests("GET", "/stream") == []


def test_an_end_between_the_look_and_the_stream_is_not_missed(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    states = iter(["running", "completed"])
    monkeypatch.setattr(Client, "get", lambda *_: task("t", next(states)))
    api.tasks["t"] = task("t", "completed")
    ran = sandbox("task", "status", "t", "-w", server=api.url)
    assert [text.split()[-1] for text in ran.out.splitlines()] == ["running", "completed"]


def test_a_watcher_outlasts_a_server_that_is_away_for_a_moment(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: Iterator[Any] = iter([task("t"), task("t"), ServerUnreachable(api.url, "away"), task("t", "completed")])

    def get(*_: Any) -> dict[str, Any]:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    monkeypatch.setattr(Client, "get", get)
    api.tasks["t"] = task("t")
    api.frames = [changed("t", "running", "completing"), changed("t", "completing", "completed")]
    ran = sandbox("task", "status", "t", "-w", server=api.url)
    assert (ran.code, ran.out.split()[-1]) == (0, "completed")


def test_status_shows_progress_outputs_and_what_was_used(api: FakeApi) -> None:
    api.tasks["t"] = task(
        "t",
        "completed",
        progress={"percent": 40, "text": "tests\x1b[2J"},
        outputs={"version": "1.2", "who": "me"},
        usage={"cpu_seconds": 12.34, "memory_peak_bytes": 3 << 29, "disk_peak_bytes": None},
    )
    found = sandbox("task", "status", "t", server=api.url).out.splitlines()
    assert f"{'progress:':<12} 40 % tests" in found
    assert f"{'outputs:':<12} version=1.2, who=me" in found
    assert f"{'used:':<12} 12.3 s cpu, memory up to 1.5 GiB" in found


# --- logs


@pytest.fixture
def logged(api: FakeApi) -> FakeApi:
    api.tasks["t"] = task("t", "completed")
    api.records["t"] = [
        change("ready", "running"),
        line("one\n"),
        line("two\n", "stderr"),
        ("gap", {"timestamp": AT, "stream": "gap", "dropped_bytes": 9}),
        line("three"),
        end("completed", 0),
    ]
    return api


def test_logs_print_the_output_itself_and_the_rest_beside_it(logged: FakeApi) -> None:
    logged.cut_logs_after = [3]
    ran = sandbox("task", "logs", "t", server=logged.url)
    assert (ran.code, ran.out) == (0, "one\ntwo\nthree")
    assert ran.err.splitlines() == ["ready -> running", 'gap {"dropped_bytes": 9}']


def test_logs_with_timestamps_have_the_contracts_form(logged: FakeApi) -> None:
    assert sandbox("task", "logs", "t", "--timestamps", server=logged.url).out.splitlines() == [
        f"[{AT}] [EVENT] ready -> running",
        f"[{AT}] [STDOUT] one",
        f"[{AT}] [STDERR] two",
        f'[{AT}] [GAP] gap {{"dropped_bytes": 9}}',
        f"[{AT}] [STDOUT] three",
    ]


def test_logs_as_json_are_one_record_a_line_with_its_cursor(logged: FakeApi) -> None:
    ran = sandbox("task", "logs", "t", "--format", "json", "--stream", "stdout", server=logged.url)
    records = [json.loads(text) for text in ran.out.splitlines()]
    assert [(one["stream"], one["cursor"]) for one in records] == [
        ("stdout", "2"),
        ("gap", "4"),
        ("stdout", "5"),
        ("end", "6"),
    ]


def test_logs_as_table_name_the_stream_of_each_line(logged: FakeApi) -> None:
    ran = sandbox("task", "logs", "t", "--format", "table", server=logged.url)
    assert "2026-01-29 10:15:02  stderr  two" in ran.out.splitlines()


def test_every_log_option_reaches_the_server(logged: FakeApi) -> None:
    options = ["-f", "--tail", "2", "--stream", "all", "--since", "2026-01-29T11:00:00+01:00", "--after", "1"]
    ran = sandbox("task", "logs", "t", *options, "--attempt", "2", server=logged.url)
    assert (ran.code, ran.out) == (0, "three")
    assert dict(logged.seen[0].query) == {
        "format": "sse",
        "stream": "all",
        "follow": "true",
        "tail": "2",
        "since": "2026-01-29T10:00:00.000000Z",
        "after": "1",
        "attempt": "2",
    }


FAILED = {"reason": "exit_nonzero", "message": "the command exited with 3", "hint": "Look at the end."}


def test_a_followed_log_tells_at_its_end_why_the_task_failed(api: FakeApi) -> None:
    api.tasks["t"] = task("t", "failed", outcome=FAILED)
    api.records["t"] = [line("one\n"), end("failed", 3)]
    ran = sandbox("task", "logs", "t", "-f", server=api.url)
    assert (ran.code, ran.out) == (0, "one\n")
    assert ran.err == "exit_nonzero: the command exited with 3\nLook at the end.\n"


@pytest.mark.parametrize("args", [[], ["-f", "--stream", "all"], ["-f", "--attempt", "1"], ["-f", "--format", "json"]])
def test_a_part_of_a_log_and_one_for_programs_tell_nothing_more(api: FakeApi, args: list[str]) -> None:
    api.tasks["t"] = task("t", "failed", outcome=FAILED)
    api.records["t"] = [line("one\n"), end("failed", 3)]
    assert sandbox("task", "logs", "t", *args, server=api.url).err == ""


def test_a_server_that_goes_away_behind_the_end_of_a_log_is_no_failure(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.tasks["t"] = task("t", "failed", outcome=FAILED)
    api.records["t"] = [line("one\n"), end("failed", 3)]
    real, answers = Client.get, [None]

    def once(client: Client, task_id: str) -> Any:
        if not answers:
            raise ServerUnreachable(api.url, "gone")
        answers.pop()
        return real(client, task_id)

    monkeypatch.setattr(Client, "get", once)  # the first look says whether an agent runs
    ran = sandbox("task", "logs", "t", "-f", server=api.url)
    assert (ran.code, ran.out, ran.err) == (0, "one\n", "")


@pytest.mark.parametrize(
    "args",
    [
        "--since yesterday",
        "--since 2026-01-29T10:00:00",
        "--attempt 0",
        "--tail -1",
        "--stream x",
        "--stream stdout,",
        "--stream all,stdout",
        "--raw --stream stderr",
        "--timestamps --format json",
    ],
)
def test_logs_with_a_bad_option_are_a_usage_error(args: str) -> None:
    assert sandbox("task", "logs", "t", *args.split()).code == 2


def test_since_takes_a_duration_before_now(logged: FakeApi) -> None:
    assert sandbox("task", "logs", "t", "--since", "10m", server=logged.url).code == 0
    assert dict(logged.requests("GET", "/logs")[0].query)["since"].endswith("Z")


# --- cancel and purge


def test_cancel_reports_the_fact(api: FakeApi) -> None:
    api.tasks["t"] = task("t")
    ran = sandbox("task", "cancel", "t", "--reason", "why", "--force", server=api.url)
    assert (ran.code, ran.out) == (0, "t cancelled (was running)\n")
    assert dict(api.seen[0].query) == {"reason": "why", "force": "true", "wait": "15"}


def test_a_cancellation_that_is_not_confirmed_yet_is_not_called_done(api: FakeApi) -> None:
    api.tasks["t"] = task("t")
    api.cancel_state = "running"
    ran = sandbox("task", "cancel", "t", "--wait", "0", "--children", server=api.url)
    assert ran.code == 0
    assert "still running, cancellation stopping" in ran.out


def test_cancelling_several_tries_all_and_ends_with_the_first_refusal(api: FakeApi) -> None:
    api.tasks = {"a": task("a", "completed"), "b": task("b")}
    ran = sandbox("task", "cancel", "a", "gone", "b", "b", "--format", "json", server=api.url)
    assert ran.code == 4
    answers = json.loads(ran.out)
    assert [(one["task_id"], one["success"]) for one in answers] == [
        ("a", False),
        ("gone", False),
        ("b", True),
    ]
    assert "task a has ended" in ran.err


def test_purge_removes_the_data(api: FakeApi) -> None:
    api.tasks["t"] = task("t", "completed")
    assert sandbox("task", "purge", "t", server=api.url).out == "t purged\n"
    assert json.loads(sandbox("task", "purge", "t", "--format", "json", server=api.url).out)["purged"] is True
    assert len(api.requests("DELETE", "/t/data")) == 2


# --- artifacts and download


@pytest.fixture
def stored(api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    monkeypatch.chdir(tmp_path)
    api.tasks["t"] = task("t", "completed")
    api.artifacts["t"] = {"out/report.md": b"report", "a/x": b"1", "b/x": b"22"}
    return api


def test_artifacts_are_listed(stored: FakeApi) -> None:
    assert "out/report.md  6 B   text/plain" in sandbox("task", "artifacts", "t", server=stored.url).out
    assert json.loads(sandbox("task", "artifacts", "t", "--format", "json", server=stored.url).out)["total_count"] == 3


@pytest.mark.parametrize(
    ("name", "output", "place"),
    [
        ("out/report.md", None, "report.md"),
        ("report.md", "mine.md", "mine.md"),
        ("report.md", "made/here/", "made/here/report.md"),
    ],
)
def test_one_artifact_goes_where_output_says(stored: FakeApi, name: str, output: str | None, place: str) -> None:
    options = ["-o", output] if output else []
    ran = sandbox("task", "download", "t", name, *options, server=stored.url)
    assert ran.code == 0
    assert ran.out == f"{place} (6 B, SHA-256 verified)\n"
    assert Path(place).read_bytes() == b"report"


def test_an_ambiguous_name_is_refused_and_an_unknown_one_not_found(stored: FakeApi) -> None:
    assert sandbox("task", "download", "t", "x", server=stored.url).code == 4
    assert sandbox("task", "download", "t", "nope", server=stored.url).code == 3
    assert sandbox("task", "download", "t", "b/x", server=stored.url).code == 0
    assert Path("x").read_bytes() == b"22"


def test_a_name_may_be_left_out_only_when_there_is_one_artifact(stored: FakeApi) -> None:
    ran = sandbox("task", "download", "t", server=stored.url)
    assert ran.code == 2
    assert "out/report.md" in ran.err
    assert sandbox("task", "download", "t", "x", "--all", server=stored.url).code == 2
    stored.artifacts["t"] = {"only.txt": b"x"}
    assert sandbox("task", "download", "t", server=stored.url).code == 0
    assert Path("only.txt").exists()


def test_all_artifacts_go_below_a_directory_named_like_the_task(stored: FakeApi) -> None:
    stored.cut_bytes_after = [2]
    ran = sandbox("task", "download", "t", "--all", "--format", "json", server=stored.url)
    assert ran.code == 0
    report = json.loads(ran.out)
    assert [one["file"] for one in report["downloaded"]] == ["t/out/report.md", "t/a/x", "t/b/x"]
    assert {str(path) for path in Path("t").rglob("*") if path.is_file()} == {
        "t/out/report.md",
        "t/a/x",
        "t/b/x",
    }


def test_a_hostile_artifact_is_refused_and_the_others_still_come(stored: FakeApi, tmp_path: Path) -> None:
    stored.artifacts["t"] = {"../evil": b"x", "a\\..\\evil": b"x", "/tmp/evil": b"x", "good": b"ok"}
    ran = sandbox("task", "download", "t", "--all", "-o", "into", "--format", "json", server=stored.url)
    assert ran.code == 70
    report = json.loads(ran.out)
    assert [one["path"] for one in report["downloaded"]] == ["good"]
    assert len(report["failed"]) == 3
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == {"into", "into/good"}


def test_wrong_bytes_are_70_unless_nobody_verifies(stored: FakeApi) -> None:
    stored.corrupt = True
    ran = sandbox("task", "download", "t", "report.md", server=stored.url)
    assert ran.code == 70
    assert "SHA-256" in ran.err
    assert not Path("report.md").exists()
    ran = sandbox("task", "download", "t", "report.md", "--no-verify", server=stored.url)
    assert (ran.code, "not verified" in ran.out) == (0, True)


# --- validate


def test_a_valid_manifest_is_valid_without_a_server(manifest: str) -> None:
    ran = sandbox("task", "validate", manifest)
    assert (ran.code, ran.out) == (0, f"{manifest}: valid\n")
    assert json.loads(sandbox("task", "validate", manifest, "--format", "json").out) == {
        "valid": True,
        "errors": [],
    }


def test_what_only_an_operator_knows_is_not_judged(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(MANIFEST + "repository: {url: 'file:///srv/x'}\nvm: {profile: theirs}\n")
    assert sandbox("task", "validate", str(path)).code == 0


def test_every_mistake_is_named_with_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(MANIFEST + "vm:\n  cpuss: 2\n  memory: lots\n")
    ran = sandbox("task", "validate", str(path))
    assert ran.code == 2
    lines = ran.out.splitlines()
    assert lines[0].startswith(f"{path}:6:3: ")
    assert "write cpus" in lines[0]
    assert lines[1].startswith(f"{path}:7:11: ")
    report = json.loads(sandbox("task", "validate", str(path), "--format", "json").out)
    assert [one["line"] for one in report["errors"]] == [6, 7]
    assert sandbox("task", "validate", str(path), "--format", "table").code == 2


def test_standard_input_is_validated_too() -> None:
    assert sandbox("task", "validate", "-", stdin=MANIFEST).code == 0
    assert sandbox("task", "validate", "-", stdin="").code == 2


# --- a real process, a real terminal

PROGRAM = (
    "import sys; from orchestrator.cli import deferred, make_root, run;"
    "sys.exit(run(sys.argv[1:], make_root({'task': deferred('api.commands.task:task', 'x')})))"
)


def started(*args: str, **options: Any) -> subprocess.Popen[bytes]:
    env = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "SANDBOX_TOKEN"}}
    env |= {"PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm"} | options.pop("env", {})
    # A test run in the background ignores SIGINT, and its children with it: on a terminal nobody does.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen([sys.executable, "-c", PROGRAM, *args], env=env, **options)
    finally:
        signal.signal(signal.SIGINT, before)


def on_terminal(*args: str, answer: bytes = b"", env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run the command on a terminal of its own; return the exit code and all it showed."""
    controller, terminal = pty.openpty()
    process = started(*args, stdin=terminal, stdout=terminal, stderr=terminal, env=env or {})
    os.close(terminal)
    if answer:
        os.write(controller, answer)
    shown = b""
    while True:
        try:
            chunk = os.read(controller, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(controller)
    return process.wait(timeout=30), shown.decode()


def test_on_a_terminal_stderr_of_the_task_has_a_colour_unless_no_color_is_set(logged: FakeApi) -> None:
    args = ("task", "logs", "t", "--server", logged.url)
    code, shown = on_terminal(*args)
    assert code == 0
    assert "\x1b[2;31mtwo" in shown or "\x1b[31m\x1b[2mtwo" in shown
    assert "\x1b" not in on_terminal(*args, env={"NO_COLOR": "1"})[1]


def test_on_a_terminal_several_cancellations_are_asked_about(api: FakeApi) -> None:
    api.tasks = {"a": task("a"), "b": task("b")}
    code, shown = on_terminal("task", "cancel", "a", "b", "--server", api.url, answer=b"n\n")
    assert (code, "Cancel 2 tasks?" in shown) == (130, True)
    assert api.seen == []
    assert on_terminal("task", "cancel", "a", "b", "--server", api.url, answer=b"y\n")[0] == 0
    assert on_terminal("task", "cancel", "a", "b", "-y", "--server", api.url)[0] == 0
    assert len(api.seen) == 4


def test_on_a_terminal_lists_are_tables_and_watching_redraws(api: FakeApi) -> None:
    api.tasks["t"] = task("t", "completed")
    assert "────" in on_terminal("task", "list", "--server", api.url)[1]
    code, shown = on_terminal("task", "status", "t", "--watch", "--server", api.url)
    assert code == 0
    assert "completed" in shown


def test_ctrl_c_while_waiting_is_130_and_leaves_the_task_alone(api: FakeApi, manifest: str) -> None:
    api.records["task-001"] = [change("pending", "running")]
    process = started(
        "task",
        "submit",
        manifest,
        "--wait",
        "--server",
        api.url,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 20
    while not api.requests("GET", "/logs") and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"sandbox task cancel task-001" in err
    assert b"Traceback" not in err
    assert api.requests("DELETE", "task-001") == []


def test_a_reader_that_goes_away_ends_the_command_quietly(api: FakeApi) -> None:
    api.tasks["t"] = task("t", "completed")
    api.records["t"] = [*[line("x" * 1000 + "\n")] * 500, end("completed", 0)]
    process = started("task", "logs", "t", "--server", api.url, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=20) == 141
    assert err == b""
