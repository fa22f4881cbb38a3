"""What the model says and does: texts, calls of tools, and their results, its helpers' included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from workers.agents.claude.json_lines import cut, mapping, name, objects
from workers.agents.claude.questions import settled
from workers.agents.claude.seen import ClaudeSeen, keep
from workers.agents.claude.summaries import as_json, call_summary, result_summary
from workers.agents.port import AgentEvent, Told

MESSAGE_BYTES = 64 << 10
INPUT_BYTES = 4 << 10


def model_spoke(seen: ClaudeSeen, said: Mapping[str, Any], at: float) -> Told:
    """An answer of the model comes in several lines, one for each of its parts."""
    if said.get("is_api_error_message"):
        return Told()  # the agent's own words; its result repeats them
    message, helper = mapping(said.get("message")), _helper(said)
    if not helper:
        seen.resting = False
        if seen.message_id != (message_id := name(message.get("id"))):
            seen.message_id = message_id
            seen.turns += 1
    return Told(list(_said(seen, message, helper, at)))


def tools_answered(seen: ClaudeSeen, said: Mapping[str, Any], at: float) -> Told:
    """What the agent tells the model: results of tools, and what people sent, which `taken_in` sees to."""
    helper = _helper(said)
    if not helper:
        seen.resting = False
    results = [one for one in objects(mapping(said.get("message")).get("content")) if one.get("type") == "tool_result"]
    events = [_result(seen, one, helper, at) for one in results]
    _look_for_current_tool(seen)
    return Told(events, withdrawn=settled(seen, [name(one.get("tool_use_id")) for one in results]))


def _helper(said: Mapping[str, Any]) -> dict[str, str]:
    """The call that started the helper which this is about; empty for the agent itself."""
    parent = name(said.get("parent_tool_use_id"))
    return {"parent_tool_use_id": parent} if parent else {}


def _said(seen: ClaudeSeen, message: Mapping[str, Any], helper: Mapping[str, str], at: float) -> Iterator[AgentEvent]:
    for part in objects(message.get("content")):
        if part.get("type") == "text":
            text, is_cut = cut(part.get("text"), MESSAGE_BYTES)
            if text.strip():
                yield AgentEvent("message", {"text": text, **_truncated(is_cut), **helper})
        elif part.get("type") == "tool_use":
            yield _call(seen, part, helper, at)


def _call(seen: ClaudeSeen, part: Mapping[str, Any], helper: Mapping[str, str], at: float) -> AgentEvent:
    tool, tool_use_id, given = name(part.get("name")), name(part.get("id")), mapping(part.get("input"))
    seen.tool_calls += 1
    keep(seen.open_tools, tool_use_id, {"tool": tool, "at": at, "is_helpers": bool(helper)})
    _look_for_current_tool(seen)
    (summary, summary_is_cut), (text, text_is_cut) = call_summary(tool, given), cut(as_json(given), INPUT_BYTES)
    body = {"tool": tool, "tool_use_id": tool_use_id, "summary": summary, "input": text}
    return AgentEvent("tool_use", {**body, **_truncated(summary_is_cut or text_is_cut), **helper})


def _result(seen: ClaudeSeen, part: Mapping[str, Any], helper: Mapping[str, str], at: float) -> AgentEvent:
    tool_use_id = name(part.get("tool_use_id"))
    call = seen.open_tools.pop(tool_use_id, {})
    summary, is_cut = result_summary(part.get("content"))
    body = {
        "tool": call.get("tool", "?"),
        "tool_use_id": tool_use_id,
        "is_error": part.get("is_error") is True,
        "seconds": round(max(0.0, at - call["at"]), 3) if "at" in call else None,
        "summary": summary,
    }
    return AgentEvent("tool_result", {**body, **_truncated(is_cut), **helper})


def _look_for_current_tool(seen: ClaudeSeen) -> None:
    """The latest call of the agent itself that has no result yet."""
    own = [call["tool"] for call in seen.open_tools.values() if not call["is_helpers"]]
    seen.current_tool = own[-1] if own else None


def _truncated(is_cut: bool) -> dict[str, bool]:
    return {"truncated": True} if is_cut else {}
