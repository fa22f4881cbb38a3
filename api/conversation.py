"""The events of a coding agent in words (pure): for the text form of a log, and for people at a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from api.plain_text import escaped

Body = Mapping[str, Any]


def lines(body: Body, *, is_resumed: bool = False) -> list[str] | None:
    """What an event tells, in lines that a terminal shows as they are; None for one that is not an agent's.

    What a helper of the agent says and does is indented. `is_resumed`: its task goes on from another, whose cost and
    tokens the agent counts in. `body` comes from a log, which another version may have
    written: any member may be missing.
    """
    told = _WORDS.get(str(body.get("type")))
    if told is None:
        return None
    if is_resumed and body.get("type") == "result":
        return _result(body, " in this session")
    indent = "    " if body.get("parent_tool_use_id") else ""
    return [f"{indent}{line}" for line in told(body)]


def is_routine(body: Body) -> bool:
    """True for what a reader of the conversation does not miss: a tool that did what it was to do."""
    return body.get("type") == "tool_result" and not body.get("is_error")


def usage_line(used: Body) -> str:
    """What an agent has used (`usage.agent` of a task), in one line."""
    cost, models = used.get("cost_usd"), used.get("models") or {}
    parts = [
        _count(used.get("turns"), "turn"),
        _tokens(used),
        f"${cost:.4f}" if isinstance(cost, int | float) else None,
        _count(used.get("requests"), "request"),
    ]
    of = f" ({', '.join(escaped(str(name)) for name in models)})" if models else ""
    return ", ".join(part for part in parts if part) + of


def _started(body: Body) -> list[str]:
    parts = [f"model {_word(body, 'model')}"] if body.get("model") else []
    parts += [_count(body["tools"], "tool")] if isinstance(body.get("tools"), int) else []
    servers = [one for one in _list(body.get("mcp_servers")) if isinstance(one, Mapping)]
    if servers:
        parts.append("MCP servers " + ", ".join(f"{_word(one, 'name')} ({_word(one, 'status')})" for one in servers))
    if unknown := _list(body.get("unknown_tools")):
        parts.append("without " + ", ".join(escaped(str(one)) for one in unknown) + ", which it does not know")
    version = f" {_word(body, 'version')}" if body.get("version") else ""
    return [f"agent{version} started" + (f": {', '.join(parts)}" if parts else "")]


def _message(body: Body) -> list[str]:
    return _text(body)


def _tool_use(body: Body) -> list[str]:
    summary = f": {_word(body, 'summary')}" if body.get("summary") else ""
    return [f"● {_word(body, 'tool')}{summary}"]


def _tool_result(body: Body) -> list[str]:
    seconds = body.get("seconds")
    took = f" after {seconds:.1f} s" if isinstance(seconds, int | float) else ""
    if not body.get("is_error"):
        return [f"  ✓ {_word(body, 'tool')}{took}"]
    why = f": {_word(body, 'summary')}" if body.get("summary") else ""
    return [f"  ✗ {_word(body, 'tool')} failed{took}{why}"]


def _api_retry(body: Body) -> list[str]:
    why = " ".join(_word(body, name) for name in ("status", "error") if body.get(name))
    delay = body.get("delay_seconds")
    when = f" in {delay:.1f} s" if isinstance(delay, int | float) else ""
    number = f"try {_word(body, 'retry')} of {_word(body, 'max_retries')}"
    return [f"! the model API failed ({why or 'no answer'}): {number}{when}"]


def _mcp_failed(body: Body) -> list[str]:
    why = f": {_word(body, 'error')}" if body.get("error") else ""
    return [f"! MCP server {_word(body, 'server')} is not there ({_word(body, 'status')}){why}"]


def _permission_denied(body: Body) -> list[str]:
    why = f": {_word(body, 'message')}" if body.get("message") else ""
    return [f"  ✗ {_word(body, 'tool')} was not allowed{why}"]


def _background(body: Body) -> list[str]:
    what = f": {_word(body, 'description')}" if body.get("description") else ""
    return [f"  in the background, {_word(body, 'task_type')} {_word(body, 'status')}{what}"]


def _result(body: Body, where: str = "") -> list[str]:
    used = usage_line(body)
    counted = f": {used}{where}" if used else ""
    if not body.get("is_error"):
        return [f"✓ the agent is done{counted}"]
    why = f" ({_word(body, 'reason')})" if body.get("reason") else ""
    return [f"✗ the agent gave up{why}{counted}", *(_text(body) if body.get("text") else [])]


def _input_required(body: Body) -> list[str]:
    first, *more = _text(body)
    options = [f"- {escaped(str(one))}" for one in _list(body.get("options"))]
    more += [one for one in options if not any(line.startswith(one) for line in more)]  # which the text may name, too
    return [f"? {first}", *(f"  {one}" for one in more)]


def _input_withdrawn(body: Body) -> list[str]:
    return [f"? the agent does not ask {_word(body, 'id')} any more"]


def _input(body: Body) -> list[str]:
    return [f"> {line}" for line in _text(body, "answer" if body.get("text") is None else "text")]


_WORDS: dict[str, Callable[[Body], list[str]]] = {
    "agent_started": _started,
    "message": _message,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
    "api_retry": _api_retry,
    "mcp_failed": _mcp_failed,
    "permission_denied": _permission_denied,
    "background": _background,
    "result": _result,
    "input_required": _input_required,
    "input_withdrawn": _input_withdrawn,
    "input": _input,
}


def _word(body: Body, name: str) -> str:
    """A member as a part of a line."""
    found = body.get(name)
    return "?" if found is None else escaped(" ".join(str(found).split("\n")))


def _list(found: object) -> list[Any]:
    return found if isinstance(found, list) else []


def _text(body: Body, name: str = "text") -> list[str]:
    """A member that is a text of several lines, as at least one line."""
    found = body.get(name)
    text = "" if found is None else str(found).removesuffix("\n")
    lines = [escaped(line.removesuffix("\r").expandtabs(4)) for line in text.split("\n")]
    return [*lines[:-1], f"{lines[-1]} …"] if body.get("truncated") else lines


def _count(number: object, unit: str) -> str:
    if not isinstance(number, int):
        return ""
    return f"{number:,} {unit}" if number == 1 else f"{number:,} {unit}s"


def _tokens(used: Body) -> str:
    """With what was read from and written to the API's cache: it is sent and paid, too."""
    sent = [used.get(name) for name in ("input_tokens", "cache_read_tokens", "cache_write_tokens")]
    known = [number for number in sent if isinstance(number, int)]
    got = used.get("output_tokens")
    return f"{sum(known):,} tokens in, {got:,} out" if known and isinstance(got, int) else ""
