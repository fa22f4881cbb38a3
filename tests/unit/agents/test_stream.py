"""What the reader makes of streams that the real agent printed."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from tests.unit.agents.recorded import AGENT, EXIT_CODES, STARTED_AT, lines_of, manifest, read
from workers.agents.port import AgentEvent

MODEL = "claude-sonnet-4-5-20250929"


def types_of(name: str, **claude: Any) -> list[str]:
    return [event.type for event in read(lines_of(name), **claude).events]


def test_a_run_is_told_from_its_start_to_its_result() -> None:
    assert types_of("success") == [
        "agent_started", "message", "tool_use", "tool_use", "tool_result", "tool_result", "message", "result",
    ]  # fmt: skip


def test_the_start_tells_what_the_agent_is() -> None:
    told = read(lines_of("success"))
    (started,) = told.of("agent_started")
    assert started == {
        "session_id": told.seen.session_id,
        "model": MODEL,
        "version": "2.1.330",
        "tools": 26,
        "mcp_servers": [],
    }


def test_a_tool_is_told_with_what_it_is_for_and_what_came_of_it() -> None:
    told = read(lines_of("success"), seconds_a_line=0.5)
    write, bash = told.of("tool_use")
    assert (write["tool"], write["summary"]) == ("Write", "/workspace/a.txt")
    assert json.loads(write["input"]) == {"file_path": "/workspace/a.txt", "content": "hello\n"}
    assert (bash["tool"], bash["summary"]) == ("Bash", "cat a.txt")
    first, second = told.of("tool_result")
    assert (first["tool"], first["tool_use_id"], first["is_error"]) == ("Write", write["tool_use_id"], False)
    assert (second["tool"], second["summary"], second["seconds"]) == ("Bash", "hello", 1.0)


def test_the_result_tells_answer_turns_and_costs() -> None:
    told = read(lines_of("success"))
    (result,) = told.of("result")
    assert result == {
        "is_error": False,
        "turns": 2,
        "cost_usd": 0.001244,
        "input_tokens": 200,
        "output_tokens": 40,
        "cache_read_tokens": 20,
        "cache_write_tokens": 10,
        "text": "It is *done*.",
        "reason": "completed",
    }


def test_progress_is_known_after_each_line() -> None:
    reader, told = AGENT.reader(manifest(), None), []
    for line in lines_of("success"):
        reader.read(line, STARTED_AT)
        told.append((reader.seen.turns, reader.seen.tool_calls, reader.seen.current_tool, reader.seen.idle))
    assert list(dict.fromkeys(told)) == [
        (0, 0, None, False),
        (1, 0, None, False),
        (1, 1, "Write", False),
        (1, 2, "Bash", False),
        (1, 2, None, False),
        (2, 2, None, False),
        (2, 2, None, True),
    ]


def test_what_it_used_is_known_by_model() -> None:
    seen = read(lines_of("success")).seen
    assert seen.models == {
        MODEL: {
            "input_tokens": 200,
            "output_tokens": 40,
            "cache_read_tokens": 20,
            "cache_write_tokens": 10,
            "cost_usd": 0.001244,
        }
    }
    assert seen.result == {
        "is_error": False, "subtype": "success", "reason": "completed", "status": None, "text": "It is *done*.",
    }  # fmt: skip


def test_the_prompt_is_taken_in() -> None:
    assert read(lines_of("success")).seen.taken == [0]


def test_an_api_that_refuses_is_a_result_and_not_the_agent_s_message() -> None:
    told = read(lines_of("api_400"))
    assert [event.type for event in told.events] == ["agent_started", "result"]
    assert told.seen.result == {
        "is_error": True,
        "subtype": "success",
        "reason": "api_error",
        "status": 400,
        "text": "API Error: 400 max_tokens: too large",
    }
    assert told.seen.turns == 0


def test_retries_are_told() -> None:
    told = read(lines_of("overloaded_for_a_while"))
    first, second = told.of("api_retry")
    assert (first["retry"], first["max_retries"], first["status"], first["error"]) == (1, 10, 529, "overloaded")
    assert 0 < first["delay_seconds"] < second["delay_seconds"] < 10
    assert told.seen.result is not None
    assert told.seen.result["is_error"] is False


def test_an_api_that_is_not_there_has_no_status() -> None:
    told = read(lines_of("unreachable"))
    assert told.of("api_retry")[0]["status"] is None
    assert told.seen.result is not None
    assert (told.seen.result["reason"], told.seen.result["status"]) == ("api_error", None)


def test_turns_are_the_model_s_answers() -> None:
    assert read(lines_of("max_turns")).seen.turns == 2


def test_each_question_is_asked_once_and_over_with_its_answer() -> None:
    told = read(lines_of("questions"), interactive=True)
    first, second = told.asked
    assert (first.kind, first.text, first.options) == (
        "question",
        "Which color? (Red: warm; Blue: cold)",
        ("Red", "Blue"),
    )
    assert (second.text, second.options) == (
        "Which color?\n- Red: warm\n- Blue: cold\nWhich sizes? (several may be chosen)\n- S: small\n- M: medium",
        (),
    )
    assert told.withdrawn == [first.id, second.id]
    assert told.seen.taken == [0, 1, 2]
    assert told.of("input_required")[0] == {
        "id": first.id, "kind": "question", "text": first.text, "options": ["Red", "Blue"],
    }  # fmt: skip
    assert not told.of("input_withdrawn")


def test_a_question_keeps_what_its_answer_must_repeat() -> None:
    first = read(lines_of("questions"), interactive=True).asked[0]
    assert first.asked_at.timestamp() > STARTED_AT
    assert first.request["request_id"] == first.id
    assert first.request["questions"] == [
        {
            "question": "Which color?",
            "header": "Color",
            "options": [{"label": "Red", "description": "warm"}, {"label": "Blue", "description": "cold"}],
            "multiSelect": False,
        }
    ]


def test_an_agent_that_waits_for_an_answer_is_not_idle() -> None:
    reader = AGENT.reader(manifest(interactive=True), None)
    for line in lines_of("questions"):
        if reader.read(line, STARTED_AT).asked:
            assert not reader.seen.idle
            assert reader.seen.current_tool == "AskUserQuestion"
            return
    pytest.fail("nothing was asked")


def test_a_question_that_nobody_will_answer_is_withdrawn() -> None:
    told = read(lines_of("question_left"), interactive=True)
    (question,) = told.asked
    assert told.of("input_withdrawn") == [{"id": question.id}]
    assert question.id in told.withdrawn
    assert told.seen.result is not None
    assert told.seen.result["reason"] == "aborted_tools"


def test_a_permission_is_asked_for_with_what_it_is_for() -> None:
    told = read(lines_of("permissions"), interactive=True, skip_permissions=False)
    assert [(one.kind, one.text, one.options) for one in told.asked] == [
        ("permission", "the agent wants to use Bash: touch /workspace/b.txt", ("allow", "deny")),
        ("permission", "the agent wants to use Write: /workspace/c.txt", ("allow", "deny")),
    ]
    assert [one["is_error"] for one in told.of("tool_result")] == [False, True]
    assert "input" not in told.asked[0].request


def test_what_the_agent_may_not_do_is_told() -> None:
    (denied,) = read(lines_of("permission_denied"), skip_permissions=False).of("permission_denied")
    assert denied["tool"] == "Bash"
    assert "needs approval" in denied["message"]


def test_what_the_manifest_allows_in_vain_is_told() -> None:
    allowed = ["Read", "Bash(echo *)", "Bsh"]
    told = read(lines_of("allowed_parts"), allowed_tools=allowed)
    assert told.of("agent_started")[0]["unknown_tools"] == ["Bsh"]
    assert told.seen.problems == ["claude.allowed_tools names what this agent does not have: Bsh"]
    assert [one["is_error"] for one in told.of("tool_result")].count(True) == 2
    assert len(told.of("permission_denied")) == 1


def test_another_name_of_a_tool_is_not_in_vain() -> None:
    told = read(lines_of("success"), allowed_tools=["Agent", "Bash", "AskUserQuestion"])
    assert told.seen.problems == []


def test_a_message_is_taken_in_while_the_agent_works() -> None:
    told = read(lines_of("message_mid_run"), interactive=True)
    assert told.seen.taken == [0, 1]
    assert told.seen.idle
    assert [one["text"] for one in told.of("result")] == ["Counted.", "I have read it."]
    assert len(told.of("agent_started")) == 1


def test_each_server_that_is_not_there_is_told() -> None:
    told = read(lines_of("mcp_failed"))
    failed = {one["server"]: one["status"] for one in told.of("mcp_failed")}
    assert failed == {"odd": "skipped", "missing": "failed", "refused": "failed", "silent": "failed"}
    assert "expected string" in told.of("mcp_failed")[0]["error"]
    assert len(told.seen.problems) == 4


def test_background_work_is_told_and_waited_for() -> None:
    reader, idle = AGENT.reader(manifest(), None), []
    for line in lines_of("background"):
        ends = [event for event in reader.read(line, STARTED_AT).events if event.type == "result"]
        idle += [reader.seen.idle for _ in ends]
    assert idle == [False, True]
    told = read(lines_of("background"))
    assert [(one["status"], one["task_type"]) for one in told.of("background")] == [
        ("started", "local_bash"),
        ("completed", "local_bash"),
    ]
    assert told.seen.background == []


def test_no_line_between_background_work_and_what_is_said_to_it_is_idle() -> None:
    reader, results, seen = AGENT.reader(manifest(), None), 0, []
    for line in lines_of("background"):
        results += sum(event.type == "result" for event in reader.read(line, STARTED_AT).events)
        if results == 1:
            seen.append(reader.seen.idle)
    assert len(seen) > 3
    assert not any(seen)


def test_a_long_command_in_the_foreground_is_no_background_work() -> None:
    assert not read(lines_of("long_command")).of("background")


def test_a_helper_s_work_is_told_as_such_and_disturbs_nothing() -> None:
    reader, tools = AGENT.reader(manifest(), None), []
    for line in lines_of("helper"):
        reader.read(line, STARTED_AT)
        tools.append(reader.seen.current_tool)
    assert set(tools) == {None, "Task"}
    told = read(lines_of("helper"))
    assert told.seen.turns == 3
    assert told.seen.tool_calls == 2
    calls = {one["tool"]: one for one in told.of("tool_use")}
    assert "parent_tool_use_id" not in calls["Task"]
    assert calls["Bash"]["parent_tool_use_id"] == calls["Task"]["tool_use_id"]
    assert {one["text"] for one in told.of("message") if "parent_tool_use_id" in one} == {"I look.", "Nothing there."}


def test_a_resumed_session_counts_what_the_earlier_one_cost() -> None:
    told = read(lines_of("resumed"))
    assert told.seen.turns == 1
    assert told.seen.models[MODEL]["input_tokens"] == 300


@pytest.mark.parametrize("name", sorted(EXIT_CODES))
def test_all_that_is_told_can_be_stored(name: str) -> None:
    told = read(lines_of(name))
    told.hold()
    assert len(json.dumps(asdict(told.seen))) < 4096


@pytest.mark.parametrize("name", sorted(EXIT_CODES))
def test_a_reader_that_goes_on_after_any_line_tells_the_same(name: str) -> None:
    events: list[AgentEvent] = []
    stored = None
    for number, line in enumerate(lines_of(name)):
        reader = AGENT.reader(manifest(), stored)
        events += reader.read(line, STARTED_AT + number).events
        stored = json.loads(json.dumps(asdict(reader.seen)))
    whole = read(lines_of(name))
    assert events == whole.events
    assert stored == asdict(whole.seen)


@pytest.mark.parametrize("name", sorted(EXIT_CODES))
def test_masked_secrets_break_nothing(name: str) -> None:
    lines = [line.replace(b"workspace", b"***").replace(b"echo", b"***") for line in lines_of(name)]
    assert [event.type for event in read(lines).events] == types_of(name)


def test_lines_are_shown_as_they_are_only_as_a_stream() -> None:
    assert AGENT.reader(manifest(), None).shows_lines
    assert not AGENT.reader(manifest(output_format="json"), None).shows_lines
    assert read(lines_of("success")).shown == b""


def test_as_text_only_the_answers_are_shown() -> None:
    assert read(lines_of("success"), output_format="text").shown == b"It is *done*.\n"
    assert read(lines_of("background"), output_format="text").shown == b"It runs.\nIt is over.\n"
    assert read(lines_of("max_turns"), output_format="text").shown == b"Reached maximum number of turns (2)\n"


def test_as_json_only_the_results_are_shown() -> None:
    shown = read(lines_of("background"), output_format="json").shown.splitlines()
    assert [json.loads(line)["result"] for line in shown] == ["It runs.", "It is over."]
