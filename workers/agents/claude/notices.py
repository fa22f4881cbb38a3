"""What the agent meets on its way: a model API that does not answer, a tool that it may not use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.agents.claude.json_lines import count, name, number
from workers.agents.claude.seen import ClaudeSeen
from workers.agents.claude.summaries import one_line
from workers.agents.port import AgentEvent, Told


def retries(_seen: ClaudeSeen, said: Mapping[str, Any], _at: float) -> Told:
    delay_ms = number(said.get("retry_delay_ms"))
    body = {
        "retry": count(said.get("attempt")),  # the records of a task have an `attempt` of their own
        "max_retries": count(said.get("max_retries")),
        "delay_seconds": None if delay_ms is None else round(delay_ms / 1000, 3),
        "status": count(said.get("error_status")) or None,
        "error": name(said.get("error")),
    }
    return Told([AgentEvent("api_retry", body)])


def denied(_seen: ClaudeSeen, said: Mapping[str, Any], _at: float) -> Told:
    message = said.get("message")
    text, is_cut = one_line(message if isinstance(message, str) else "")
    body: dict[str, Any] = {"tool": name(said.get("tool_name")), "message": text}
    return Told([AgentEvent("permission_denied", body | ({"truncated": True} if is_cut else {}))])
