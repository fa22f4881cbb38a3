"""A reader must survive whatever comes: broken lines, unknown events, and what a hostile program prints."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.agents.recorded import AGENT, EXIT_CODES, STARTED_AT, lines_of, manifest, read
from workers.agents.claude.questions import MAX_OPEN
from workers.agents.claude.seen import MAX_KEPT, ClaudeSeen

NOTHING = asdict(ClaudeSeen())
ALL_LINES = [line for name in sorted(EXIT_CODES) for line in lines_of(name)]
KINDS = (
    "assistant", "user", "result", "control_request", "control_cancel_request", "control_response",
    "command_lifecycle", "system",
)  # fmt: skip
SUBTYPES = (
    "init", "api_retry", "permission_denied", "background_tasks_changed", "task_notification", "can_use_tool",
)  # fmt: skip

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(SUBTYPES),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def line(**said: Any) -> bytes:
    return json.dumps(said).encode()


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"   ",
        b"[claude-code:unrecognized_model] {}",
        b"{",
        b'{"type":"assistant","message":{"content":[{"type":"te',
        b"\xff\xfe\x00",
        b"null",
        b"7",
        b'["type","result"]',
        b'"result"',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"type":"assistant","message":' + b"[" * 100_000,
        b'{"type":' + b"9" * 10_000 + b"}",
        b'{"type":{"assistant":1}}',
        b'{"type":["assistant"]}',
        b'{"type":"system","subtype":["init"]}',
        b'{"type":"something_new","session_id":"s"}',
        b'{"type":"system","subtype":"something_new"}',
        b'{"type":"control_request","request_id":"r","request":{"subtype":"something_new"}}',
        b'{"type":"stream_event","event":{"type":"content_block_delta"}}',
    ],
)
def test_a_line_that_is_broken_or_unknown_tells_nothing(broken: bytes) -> None:
    told = read([broken], output_format="text")
    assert (told.events, told.asked, told.withdrawn, told.shown) == ([], [], [], b"")
    assert asdict(told.seen) == NOTHING


def test_what_is_between_the_known_lines_changes_nothing() -> None:
    noise = [b"", b"noise", b'{"type":"something_new"}', b'{"type":"result"', b"\xff"]
    lines = [each for one in lines_of("success") for each in (*noise, one)]
    assert read(lines, seconds_a_line=0).events == read(lines_of("success"), seconds_a_line=0).events


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_without_its_members_breaks_nothing(kind: str) -> None:
    for subtype in SUBTYPES:
        bare = line(type=kind, subtype=subtype)
        read([bare, line(type=kind, subtype=subtype, message=7, request=[], tasks={})]).hold()


def test_a_result_without_its_members_is_a_failure() -> None:
    told = read([line(type="result")], output_format="text")
    assert told.seen.result == {"is_error": True, "subtype": "", "reason": "", "status": None, "text": ""}
    assert told.shown == b""


def test_numbers_that_are_none_are_not_believed() -> None:
    models = b'{"m":{"inputTokens":1e999,"costUSD":true}}'
    told = read([b'{"type":"result","total_cost_usd":NaN,"modelUsage":%b}' % models])
    assert told.seen.cost_usd is None
    assert told.seen.models["m"]["input_tokens"] == 0
    told.hold()


def test_text_that_no_store_takes_is_mended() -> None:
    parts = [
        {"type": "text", "text": "a\0b\ud800c"},
        {"type": "tool_use", "id": "\0", "name": "\ud800", "input": {"\0": "\0"}},
    ]
    told = read([line(type="assistant", message={"id": "m", "content": parts})])
    assert told.of("message") == [{"text": "a\N{REPLACEMENT CHARACTER}b?c"}]
    told.hold()


def test_long_texts_are_cut_and_say_so() -> None:
    content = [
        {"type": "text", "text": "ä" * 50_000},
        {"type": "tool_use", "id": "t", "name": "Write", "input": {"file_path": "f" * 400, "content": "x" * 10_000}},
    ]
    results = [{"type": "tool_result", "tool_use_id": "t", "content": "y " * 10_000}]
    told = read(
        [
            line(type="assistant", message={"id": "m", "content": content}),
            line(type="user", message={"content": results}),
            line(type="result", is_error=False, result="z" * 100_000),
        ]
    )
    message, call, result, end = told.events
    assert (len(message.body["text"].encode()), message.body["truncated"]) == (64 << 10, True)
    assert (len(call.body["summary"]), len(call.body["input"]), call.body["truncated"]) == (300, 4096, True)
    assert (len(result.body["summary"]), result.body["truncated"]) == (300, True)
    assert (len(end.body["text"]), end.body["truncated"]) == (64 << 10, True)
    assert told.seen.result is not None
    assert len(told.seen.result["text"]) == 2048


def test_what_is_known_of_a_run_stays_small() -> None:
    calls = [
        line(
            type="assistant", message={"id": f"m{n}", "content": [{"type": "tool_use", "id": f"t{n}", "name": "Bash"}]}
        )
        for n in range(3 * MAX_KEPT)
    ]
    servers = [
        line(type="system", subtype="init", session_id="s", mcp_servers=[{"name": f"{n}", "status": "failed"}])
        for n in range(3 * MAX_KEPT)
    ]
    tasks = [line(type="system", subtype="background_tasks_changed", tasks=[{"task_id": f"{n}"} for n in range(3000)])]
    asked = [
        line(type="control_request", request_id=f"r{n}", request={"subtype": "can_use_tool", "tool_name": "x"})
        for n in range(3 * MAX_KEPT)
    ]
    models = [line(type="result", modelUsage={f"m{n}": {} for n in range(3000)})]
    told = read([*calls, *servers, *tasks, *asked, *models], interactive=True)
    assert told.seen.tool_calls == 3 * MAX_KEPT
    assert len(json.dumps(asdict(told.seen))) < 200_000


def test_questions_that_are_too_many_to_keep_are_asked_all_the_same() -> None:
    option = {"label": "l" * 1000, "description": "d" * 1000}
    question = {"question": "Which?", "options": [option] * 100}
    request = {"subtype": "can_use_tool", "tool_name": "AskUserQuestion", "input": {"questions": [question]}}
    (asked,) = read([line(type="control_request", request_id="r", request=request)], interactive=True).asked
    assert asked.request == {"request_id": "r", "tool": "AskUserQuestion"}
    assert asked.text.startswith("Which?")
    assert len(asked.text.encode()) <= 16 << 10
    assert asked.options == ()


@pytest.mark.parametrize("questions", [None, [], "x", [7], [{}], [{"question": 7, "options": [7, {}]}]])
def test_questions_without_form_are_asked_all_the_same(questions: object) -> None:
    request = {"subtype": "can_use_tool", "tool_name": "AskUserQuestion", "input": {"questions": questions}}
    told = read([line(type="control_request", request_id="r", request=request)], interactive=True)
    assert [one.id for one in told.asked] == ["r"]
    told.hold()


def forged(request_id: str) -> bytes:
    return line(type="control_request", request_id=request_id, request={"subtype": "can_use_tool", "tool_name": "x"})


def test_only_some_questions_wait_at_once_and_the_rest_is_told_as_a_problem() -> None:
    told = read([forged(f"r{number}") for number in range(3 * MAX_OPEN)], interactive=True)
    assert [one.id for one in told.asked] == [f"r{number}" for number in range(MAX_OPEN)]
    assert told.seen.problems == [f"more than {MAX_OPEN} questions wait at once: the rest is not asked"]


@pytest.mark.parametrize("request_id", ["", "a b", "$(id)", "a;b", "-" + "x" * 64, "\u202e"])
def test_an_id_that_people_could_not_type_safely_is_no_question_s(request_id: str) -> None:
    assert read([forged(request_id)], interactive=True).asked == []


def test_an_agent_that_nobody_may_answer_asks_nothing() -> None:
    assert read([forged("r")]).asked == []


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.binary(max_size=200) | st.sampled_from(ALL_LINES), max_size=8))
def test_no_bytes_break_the_reader(lines: list[bytes]) -> None:
    read(lines, output_format="text").hold()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.fixed_dictionaries(
            {"type": st.sampled_from(KINDS)},
            optional={
                "subtype": st.sampled_from(SUBTYPES) | values,
                "message": st.fixed_dictionaries({}, optional={"id": values, "content": values}) | values,
                "request_id": st.sampled_from(["r", "s"]) | values,
                "request": st.fixed_dictionaries(
                    {"subtype": st.just("can_use_tool")},
                    optional={"tool_name": st.just("AskUserQuestion") | values, "input": values, "tool_use_id": values},
                ),
                "tasks": values, "task_id": values, "mcp_servers": values, "mcp_server_errors": values, "tools": values,
                "modelUsage": values, "total_cost_usd": values, "result": values, "errors": values, "uuid": values,
                "retry_delay_ms": values, "parent_tool_use_id": values, "isReplay": values, "is_error": values,
            },
        ),
        max_size=5,
    )
)  # fmt: skip
def test_no_json_breaks_the_reader(said: list[dict[str, Any]]) -> None:
    read([json.dumps(one).encode() for one in said], output_format="text").hold()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(ALL_LINES), st.data())
def test_a_real_line_with_something_else_in_it_breaks_nothing(real: bytes, data: st.DataObject) -> None:
    said = json.loads(real)
    at = said
    while True:
        key = data.draw(st.sampled_from(sorted(at)) if isinstance(at, dict) else st.integers(0, len(at) - 1))
        inner = at[key]
        if not (isinstance(inner, dict | list) and inner) or data.draw(st.booleans()):
            at[key] = data.draw(values)
            break
        at = inner
    read([*lines_of("questions")[:4], json.dumps(said).encode()]).hold()


def test_an_older_version_s_memory_is_enough() -> None:
    reader = AGENT.reader(manifest(), {"turns": 3, "something_old": 1})
    reader.read(lines_of("success")[-1], STARTED_AT)
    assert reader.seen.turns == 3
