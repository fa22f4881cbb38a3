"""An agent's events in words: each kind, broken ones, hostile ones."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import conversation

TOLD: list[tuple[dict[str, Any], list[str]]] = [
    (
        {
            "type": "agent_started", "session_id": "s", "version": "2.1.330", "model": "m", "tools": 23,
            "mcp_servers": [{"name": "github", "status": "failed"}],
        },
        ["agent 2.1.330 started: model m, 23 tools, MCP servers github (failed)"],
    ),
    ({"type": "agent_started"}, ["agent started"]),
    (
        {"type": "agent_started", "version": "2", "tools": 1, "unknown_tools": ["Fly", "Swim"]},
        ["agent 2 started: 1 tool, without Fly, Swim, which it does not know"],
    ),
    ({"type": "message", "text": "First.\n\n  Second.\n"}, ["First.", "", "  Second."]),
    ({"type": "message", "text": "cut", "truncated": True}, ["cut …"]),
    ({"type": "tool_use", "tool": "Bash", "tool_use_id": "t", "summary": "git status"}, ["● Bash: git status"]),
    ({"type": "tool_use", "tool": "ListFiles"}, ["● ListFiles"]),
    ({"type": "tool_use", "tool": "Write", "summary": "a.py", "truncated": True}, ["● Write: a.py"]),
    ({"type": "tool_use", "tool": "Read", "summary": "a.py", "parent_tool_use_id": "t"}, ["    ● Read: a.py"]),
    ({"type": "tool_result", "tool": "Bash", "is_error": False, "seconds": 0.31}, ["  ✓ Bash after 0.3 s"]),
    (
        {"type": "tool_result", "tool": "Bash", "is_error": True, "seconds": 1.2, "summary": "no such file"},
        ["  ✗ Bash failed after 1.2 s: no such file"],
    ),
    (
        {"type": "api_retry", "retry": 2, "max_retries": 10, "delay_seconds": 1, "status": 529, "error": "full"},
        ["! the model API failed (529 full): try 2 of 10 in 1.0 s"],
    ),
    (
        {"type": "api_retry", "retry": 1, "max_retries": 10, "status": None, "error": None},
        ["! the model API failed (no answer): try 1 of 10"],
    ),
    (
        {"type": "mcp_failed", "server": "github", "status": "failed", "error": "npx: not found"},
        ["! MCP server github is not there (failed): npx: not found"],
    ),
    ({"type": "mcp_failed", "server": "github", "status": "failed"}, ["! MCP server github is not there (failed)"]),
    (
        {"type": "permission_denied", "tool": "Bash", "message": "not in allowed_tools"},
        ["  ✗ Bash was not allowed: not in allowed_tools"],
    ),
    (
        {"type": "background", "task_type": "local_bash", "status": "started", "description": "make watch"},
        ["  in the background, local_bash started: make watch"],
    ),
    (
        {"type": "result", "is_error": False, "turns": 3, "cost_usd": 0.01234, "text": "said already", "reason": None},
        ["✓ the agent is done: 3 turns, $0.0123"],
    ),
    (
        {"type": "result", "is_error": False, "turns": 1, "cost_usd": 0, "input_tokens": 1200, "output_tokens": 5},
        ["✓ the agent is done: 1 turn, 1,200 tokens in, 5 out, $0.0000"],
    ),
    (
        {"type": "result", "is_error": True, "turns": 2, "text": "API Error: 400", "reason": "api_error"},
        ["✗ the agent gave up (api_error): 2 turns", "API Error: 400"],
    ),
    (
        {"type": "input_required", "id": "q", "kind": "question", "text": "Which?\nSay.", "options": ["a", "b"]},
        ["? Which?", "  Say.", "  - a", "  - b"],
    ),
    (
        {"type": "input_required", "id": "q", "text": "Which?\n- a: the first\n- b: the other", "options": ["a", "b"]},
        ["? Which?", "  - a: the first", "  - b: the other"],
    ),
    ({"type": "input_withdrawn", "id": "q"}, ["? the agent does not ask q any more"]),
    ({"type": "input", "number": 1, "kind": "message", "text": "one\ntwo"}, ["> one", "> two"]),
    ({"type": "input", "number": 1, "kind": "message", "text": "one", "truncated": True}, ["> one …"]),
    ({"type": "input", "number": 2, "kind": "answer", "question_id": "q", "answer": "a"}, ["> a"]),
]  # fmt: skip


@pytest.mark.parametrize(("body", "lines"), TOLD, ids=lambda value: value["type"] if isinstance(value, dict) else "")
def test_every_event_of_an_agent_has_its_words(body: dict[str, Any], lines: list[str]) -> None:
    assert conversation.lines(body) == lines


def test_what_is_no_agents_event_has_none() -> None:
    assert conversation.lines({"type": "state_change", "new_state": "running"}) is None
    assert conversation.lines({"type": "something later"}) is None
    assert conversation.lines({}) is None


def test_only_a_tool_that_did_its_work_is_routine() -> None:
    routine = [body for body, _ in TOLD if conversation.is_routine(body)]
    assert [body["type"] for body in routine] == ["tool_result"]
    assert not routine[0]["is_error"]


def test_what_an_agent_says_cannot_repaint_a_terminal() -> None:
    hostile = "\x1b[2J\x07\u202egood\x9b\r\ta"
    for body, _ in TOLD:
        changed = {key: hostile if isinstance(value, str) and key != "type" else value for key, value in body.items()}
        told = conversation.lines(changed)
        assert told
        assert all(line.isprintable() for line in told), told


@given(
    kind=st.sampled_from(sorted({body["type"] for body, _ in TOLD})),
    body=st.dictionaries(
        st.sampled_from(sorted({key for body, _ in TOLD for key in body} - {"type"})),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text(), max_size=2),
    ),
)
def test_an_event_of_another_version_never_fails(kind: str, body: dict[str, Any]) -> None:
    told = conversation.lines({"type": kind, **body})
    assert told
    assert all(isinstance(line, str) and "\n" not in line for line in told)


def test_what_an_agent_used_is_one_line_with_all_that_was_sent() -> None:
    used = {
        "turns": 12, "input_tokens": 1000, "output_tokens": 678, "cache_read_tokens": 200, "cache_write_tokens": 34,
        "cost_usd": 1.5, "requests": 4, "models": {"m": {}},
    }  # fmt: skip
    assert conversation.usage_line(used) == "12 turns, 1,234 tokens in, 678 out, $1.5000, 4 requests (m)"
    assert conversation.usage_line({**used, "cost_usd": None, "models": {}}).endswith("678 out, 4 requests")
