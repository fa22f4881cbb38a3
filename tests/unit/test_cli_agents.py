"""The `sandbox task` commands around agents: conversations, questions, inputs, sessions."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from api import rendering
from api.client import Client
from api.commands import logs
from api.commands.conversation import STREAMS as CONVERSATION
from tests.unit.fake_api import AT, FakeApi, Refusal, Seen, change, changed, end, event, frame, line, task
from tests.unit.test_cli import MANIFEST, sandbox

AGENT = {"definition": {"version": "1", "claude": {"prompt": "do it"}}}
QUESTION = {"id": "q1", "asked_at": AT, "kind": "question", "text": "Which one?", "options": ["red", "blue"]}
HINT = "answer with `sandbox task send t --question q1 --answer TEXT`"
USED = {
    "turns": 3, "input_tokens": 1000, "output_tokens": 50, "cache_read_tokens": 0, "cache_write_tokens": 0,
    "cost_usd": 0.25, "requests": 4, "models": {},
}  # fmt: skip
ASKED = event("input_required", id="q1", kind="question", text="Which one?", options=["red", "blue"])
RECORDS = [
    change("ready", "running"),
    event("agent_started", version="2.1.330", model="m", tools=5, mcp_servers=[]),
    line('{"type": "system"}\n'),
    line("a warning\n", "stderr"),
    event("message", text="I begin.\nNow."),
    event("tool_use", tool="Bash", summary="ls"),
    event("tool_result", tool="Bash", is_error=False, seconds=0.1),
    event("tool_result", tool="Bash", is_error=True, seconds=0.1, summary="gone"),
    ASKED,
    event("input", number=1, kind="answer", question_id="q1", answer="red"),
    event("result", is_error=False, turns=3, cost_usd=0.25, text="Done."),
    change("running", "completed"),
    end("completed", 0),
]
SHOWN = [
    "agent 2.1.330 started: model m, 5 tools", "a warning", "I begin.", "Now.", "● Bash: ls",
    "  ✗ Bash failed after 0.1 s: gone", "? Which one?", "  - red", "  - blue", "> red",
    "✓ the agent is done: 3 turns, $0.2500",
]  # fmt: skip


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as running:
        yield running


@pytest.fixture
def talked(api: FakeApi) -> FakeApi:
    api.tasks["t"] = task("t", "completed", **AGENT)
    api.records["t"] = list(RECORDS)
    return api


def streams(api: FakeApi) -> list[str]:
    return [dict(one.query)["stream"] for one in api.requests("GET", "/logs")]


# --- logs


def test_an_agents_log_is_a_conversation(talked: FakeApi) -> None:
    ran = sandbox("task", "logs", "t", server=talked.url)
    assert (ran.code, ran.out.splitlines()) == (0, SHOWN)
    assert ran.err.splitlines() == ["ready -> running", "running -> completed"]
    assert streams(talked) == ["stderr,events,system"]


def test_the_end_of_a_conversation_counts_what_is_shown(talked: FakeApi) -> None:
    ran = sandbox("task", "logs", "t", "--tail", "2", server=talked.url)
    assert ran.out.splitlines() == SHOWN[-2:]
    assert ran.err.splitlines() == ["running -> completed"]
    talked.records["t"][-2:-2] = [event("tool_result", tool="Bash", is_error=False)] * 1000
    ran = sandbox("task", "logs", "t", "--tail", "3", "--timestamps", server=talked.url)
    assert [text.split("] ")[-1] for text in ran.out.splitlines()] == [*SHOWN[-5:], "running -> completed"]
    assert sandbox("task", "logs", "t", "--tail", "99", server=talked.url).out.splitlines() == SHOWN


def test_who_begins_with_the_end_of_a_conversation_can_stay_with_it(talked: FakeApi) -> None:
    ran = sandbox("task", "logs", "t", "--tail", "1", "--follow", server=talked.url)
    assert ran.out.splitlines() == SHOWN[-1:]
    assert ran.err.splitlines() == ["running -> completed"]
    (history, followed) = (dict(one.query) for one in talked.requests("GET", "/logs"))
    assert ("follow" in history, followed["follow"], followed["after"]) == (False, "true", "12")


def test_what_the_agent_of_a_resumed_task_counts_is_said_to_be_the_session_s(talked: FakeApi) -> None:
    talked.tasks["t"] = task("t", "completed", **AGENT, resumed_from="t0")
    ran = sandbox("task", "logs", "t", server=talked.url)
    assert ran.out.splitlines()[-1] == f"{SHOWN[-1]} in this session"


def test_the_raw_stream_is_what_the_program_printed(talked: FakeApi) -> None:
    ran = sandbox("task", "logs", "t", "--raw", server=talked.url)
    assert (ran.out, ran.err) == ('{"type": "system"}\n', "")
    assert streams(talked) == ["stdout"]


def test_a_stream_that_is_named_is_shown_as_it_is(talked: FakeApi) -> None:
    ran = sandbox("task", "logs", "t", "--stream", "stdout,stderr", server=talked.url)
    assert ran.out == '{"type": "system"}\na warning\n'
    ran = sandbox("task", "logs", "t", "--stream", "events", server=talked.url)
    assert f"[{AT}] [EVENT] ● Bash: ls" in ran.out.splitlines()
    assert streams(talked) == ["stdout,stderr", "events"]
    assert talked.requests("GET", "/tasks/t") == []


def test_json_has_every_record_as_it_is(talked: FakeApi) -> None:
    ran = sandbox("task", "logs", "t", "--format", "json", server=talked.url)
    assert len([json.loads(text) for text in ran.out.splitlines()]) == len(RECORDS)
    assert streams(talked) == ["all"]


def test_a_conversation_can_have_its_times(talked: FakeApi) -> None:
    found = sandbox("task", "logs", "t", "--timestamps", server=talked.url).out.splitlines()
    assert f"[{AT}] [EVENT] I begin." in found
    assert f"[{AT}] [EVENT] Now." in found
    assert f"[{AT}] [STDERR] a warning" in found
    assert f"[{AT}] [EVENT] ready -> running" in found
    assert not any("✓ Bash" in text for text in found)


def test_a_command_keeps_its_plain_log(api: FakeApi) -> None:
    api.tasks["t"] = task("t", "completed")
    api.records["t"] = [line("one\n"), end("completed", 0)]
    assert sandbox("task", "logs", "t", server=api.url).out == "one\n"
    assert streams(api) == ["all"]


def test_how_to_answer_is_said_while_there_is_a_question(talked: FakeApi) -> None:
    assert "send t" not in sandbox("task", "logs", "t", server=talked.url).err  # it was answered long ago
    talked.tasks["t"] = task("t", "running", **AGENT, input_required=QUESTION)
    talked.records["t"] = [ASKED, end("running", None)]
    ran = sandbox("task", "logs", "t", server=talked.url)
    assert ran.out.splitlines() == ["? Which one?", "  - red", "  - blue"]
    assert ran.err.strip() == HINT
    talked.tasks["t"] = task("t", "running", **AGENT)
    talked.records["t"] = [event("input_required", id="q2", text="And?"), end("completed", 0)]
    assert "--question q2" in sandbox("task", "logs", "t", "--follow", server=talked.url).err


def test_the_streams_that_may_be_named_are_the_servers() -> None:
    assert logs.STREAMS == rendering.STREAMS
    assert rendering.streams_named(CONVERSATION) == CONVERSATION


# --- send


@pytest.mark.parametrize(
    ("args", "stdin", "sent"),
    [
        (["hello there"], "", {"text": "hello there"}),
        (["-"], "one\ntwo\n", {"text": "one\ntwo"}),
        (["--answer", "red"], "", {"answer": "red"}),
        (["--answer", "2", "--question", "q1"], "", {"answer": "2", "id": "q1"}),
        (["--answer", "-"], "red\n", {"answer": "red"}),
    ],
)
def test_what_is_said_reaches_the_server(talked: FakeApi, args: list[str], stdin: str, sent: dict[str, str]) -> None:
    ran = sandbox("task", "send", "t", *args, server=talked.url, stdin=stdin)
    assert ran.code == 0
    assert ran.out == f"t: {'answer' if 'answer' in sent else 'message'} 1 is sent\n"
    assert talked.inputs == [sent]


def test_what_was_accepted_can_be_had_as_json(talked: FakeApi) -> None:
    ran = sandbox("task", "send", "t", "hi", "--format", "json", server=talked.url)
    assert json.loads(ran.out)["number"] == 1


@pytest.mark.parametrize("args", [[], ["hi", "--answer", "red"], ["hi", "--question", "q1"]])
def test_to_send_nothing_or_two_things_is_a_usage_error(args: list[str]) -> None:
    assert sandbox("task", "send", "t", *args).code == 2


def test_a_task_that_is_not_there_is_3(api: FakeApi) -> None:
    assert sandbox("task", "send", "t", "hi", server=api.url).code == 3


# --- resume


def resumable(api: FakeApi, *output: tuple[str, dict[str, Any]], **more: Any) -> None:
    ran = {"attempt": 1, "state": "completed", "session": {"resumable": True, "size_bytes": 5}}
    api.tasks["t"] = task("t", "completed", **AGENT, attempts=[ran])
    api.on_submit = lambda _: task("t2", "completed", exit_code=0, **AGENT, **more)
    api.records["t2"] = [*output, end("completed", 0)]


@pytest.mark.parametrize(
    ("args", "stdin", "sent"), [([], "", {}), (["go on"], "", {"prompt": "go on"}), (["-"], "on\n", {"prompt": "on"})]
)
def test_a_task_is_resumed_with_or_without_words(
    api: FakeApi, args: list[str], stdin: str, sent: dict[str, str]
) -> None:
    resumable(api)
    ran = sandbox("task", "resume", "t", *args, server=api.url, stdin=stdin)
    assert (ran.code, ran.out) == (0, "t2 pending: accepted\n")
    (asked,) = api.requests("POST", "/resume")
    assert json.loads(asked.body) == sent
    assert asked.headers["idempotency-key"]


def test_a_resumed_task_can_be_followed_to_its_end(api: FakeApi) -> None:
    usage = {"agent": USED}
    resumable(api, event("message", text="Going on."), line("{}\n"), usage=usage)
    ran = sandbox("task", "resume", "t", "--wait", "--follow", server=api.url)
    assert (ran.code, ran.out) == (0, "Going on.\n")
    assert "The agent used 3 turns, 1,000 tokens in, 50 out, $0.2500, 4 requests" in ran.err.splitlines()
    assert streams(api) == ["stderr,events,system"]


def test_a_task_without_a_session_is_refused(talked: FakeApi) -> None:
    ran = sandbox("task", "resume", "t", server=talked.url)
    assert ran.code == 4
    assert "no session of it is stored" in ran.err


# --- submit


@pytest.fixture
def manifest(tmp_path: Any) -> str:
    path = tmp_path / "task.yaml"
    path.write_text(MANIFEST)
    return str(path)


def test_a_follower_notices_a_question_and_says_how_to_answer(api: FakeApi, manifest: str) -> None:
    api.on_submit = lambda _: task("t", "completed", exit_code=0, **AGENT)
    api.records["t"] = list(RECORDS)
    ran = sandbox("task", "submit", manifest, "--follow", server=api.url)
    assert (ran.code, ran.out.splitlines()) == (0, SHOWN)
    assert f"  {HINT}" in ran.err.splitlines()


def test_who_waits_hears_of_a_question_too(api: FakeApi, manifest: str) -> None:
    api.on_submit = lambda _: task("t", "completed", exit_code=0, **AGENT)
    api.records["t"] = [change("ready", "running"), ASKED, change("running", "completed"), end("completed", 0)]
    ran = sandbox("task", "submit", manifest, "--wait", server=api.url)
    assert "2026-01-29 10:15:02  ? Which one?   - red   - blue" in ran.out.splitlines()
    assert HINT in ran.err.splitlines()


def test_json_of_a_follower_has_every_record(api: FakeApi, manifest: str) -> None:
    api.on_submit = lambda _: task("t", "completed", exit_code=0, **AGENT)
    api.records["t"] = list(RECORDS)
    ran = sandbox("task", "submit", manifest, "--follow", "--format", "json", server=api.url)
    assert len(ran.out.splitlines()) == len(RECORDS) + 1  # without the end, with acceptance and task
    assert streams(api) == ["all"]


def test_why_an_agent_failed_is_told_by_the_end_of_the_conversation(api: FakeApi, manifest: str) -> None:
    api.on_submit = lambda _: task("t", "failed", exit_code=1, **AGENT)
    api.records["t"] = [
        line("{}\n"), event("message", text="API Error: 400"), event("result", is_error=True, reason="api_error"),
        change("running", "failed"), end("failed", 1),
    ]  # fmt: skip
    ran = sandbox("task", "submit", manifest, "--wait", server=api.url)
    assert ran.code == 1
    assert [text for text in ran.err.splitlines() if text.startswith("  ")] == [
        "  API Error: 400",
        "  ✗ the agent gave up (api_error)",
    ]


# --- status and list


def test_status_shows_the_question_the_answer_s_command_and_what_was_used(api: FakeApi) -> None:
    api.tasks["t"] = task("t", "running", **AGENT, input_required=QUESTION, resumed_from="t0", usage={"agent": USED})
    found = sandbox("task", "status", "t", server=api.url).out.splitlines()
    assert f"{'asks:':<12} Which one?" in found
    assert f"{'options:':<12} red, blue" in found
    assert f"{'to answer:':<12} {HINT}" in found
    assert f"{'agent used:':<12} 3 turns, 1,000 tokens in, 50 out, $0.2500, 4 requests" in found
    assert f"{'resumed from:':<12} t0" in found


def test_status_says_when_a_task_can_be_gone_on_from(api: FakeApi) -> None:
    resumable(api)
    found = sandbox("task", "status", "t", server=api.url).out.splitlines()
    assert f"{'session:':<12} kept: `sandbox task resume t PROMPT` goes on from it" in found


def test_a_list_shows_who_waits_for_an_answer(api: FakeApi) -> None:
    api.tasks["t"] = task("t", "running", input_required=QUESTION, state_message="the command runs")
    out = sandbox("task", "list", server=api.url).out
    assert "asks: Which one?" in out
    assert "the command runs" not in out


def test_a_watcher_sees_a_question_come_and_go(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    faces: Iterator[dict[str, Any]] = iter(
        [{}, {}, {"input_required": QUESTION}, {"input_required": None}, {"state": "completed"}]
    )
    monkeypatch.setattr(Client, "get", lambda *_: {**api.tasks["t"], **next(faces)})
    api.tasks["t"] = task("t", "running", **AGENT)
    api.frames = [
        frame("event", "t", event={"type": "input_required", "id": "q1"}),
        frame("event", "t", event={"type": "input", "number": 1}),
        changed("t", "completing", "completed"),
    ]
    out = sandbox("task", "status", "t", "--watch", server=api.url).out
    assert out.count("asks: Which one?") == 1
    assert HINT in out
    assert out.splitlines()[-1].endswith("completed")


def test_a_hostile_question_cannot_repaint_the_terminal(api: FakeApi) -> None:
    hostile = {**QUESTION, "id": "q\x1b[2J", "text": "\x1b[2Jpwned", "options": ["\x07"]}
    api.tasks["t"] = task("t", "running", **AGENT, input_required=hostile)
    api.records["t"] = [event("input_required", **hostile), end("running", None)]
    for verb in ("status", "logs"):
        ran = sandbox("task", verb, "t", server=api.url)
        assert "\x1b" not in ran.out + ran.err
        assert "\x07" not in ran.out + ran.err


def test_an_id_from_the_sandbox_is_quoted_in_the_command_that_people_are_told_to_type(api: FakeApi) -> None:
    hostile = {**QUESTION, "id": "q`id`; $(id) 'x", "kind": "permission"}
    api.tasks["t"] = task("t", "running", **AGENT, input_required=hostile)
    found = sandbox("task", "status", "t", server=api.url).out
    command = found.split("to answer:")[1].split("answer with `")[1].split("`\n")[0]
    words = ["sandbox", "task", "send", "t", "--question", hostile["id"], "--answer", "allow|deny"]
    assert shlex.split(command) == words


def test_the_server_s_own_words_of_a_refusal_are_shown(talked: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_handler: object, _seen: Seen, task_id: str) -> None:
        raise Refusal(409, "input_closed", f"task {task_id} takes no input any more: its agent is done.")

    monkeypatch.setattr("tests.unit.fake_api._ROUTES", [(r"/tasks/([^/]+)/input", {"POST": refuse})])
    ran = sandbox("task", "send", "t", "hi", server=talked.url)
    assert ran.code == 4
    assert "its agent is done" in ran.err
