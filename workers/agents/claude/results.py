"""The end of a turn: what it came to, what it cost, and what the agent answers.

One process may end several turns: one for each message that it was sent, and for each background work that ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workers.agents.claude.json_lines import count, cut, mapping, name, number, parsed
from workers.agents.claude.seen import MAX_KEPT, ClaudeSeen
from workers.agents.port import AgentEvent, Told

TEXT_BYTES = 64 << 10
KEPT_BYTES = 2 << 10

_TOKENS = {
    "input_tokens": "inputTokens",
    "output_tokens": "outputTokens",
    "cache_read_tokens": "cacheReadInputTokens",
    "cache_write_tokens": "cacheCreationInputTokens",
}


def turn_ended(seen: ClaudeSeen, said: Mapping[str, Any], _at: float) -> Told:
    text = result_text(said)
    seen.result = {
        "is_error": said.get("is_error") is not False,
        "subtype": name(said.get("subtype")),
        "reason": name(said.get("terminal_reason")) or name(said.get("subtype")),
        "status": count(said.get("api_error_status")) or None,
        "text": cut(text, KEPT_BYTES)[0],
    }
    _count_costs(seen, said)
    seen.resting = True
    seen.current_tool = None
    seen.open_tools = {tool_use_id: call for tool_use_id, call in seen.open_tools.items() if call["is_helpers"]}
    shown, is_cut = cut(text, TEXT_BYTES)
    body = {
        "is_error": seen.result["is_error"],
        "turns": seen.turns,
        "cost_usd": seen.cost_usd,
        **{tokens: sum(model[tokens] for model in seen.models.values()) for tokens in _TOKENS},
        "text": shown,
        "reason": seen.result["reason"],
    }
    return Told([AgentEvent("result", body | ({"truncated": True} if is_cut else {}))])


def result_text(said: Mapping[str, Any]) -> str:
    """What the agent answers at the end of a turn, or why it does not."""
    if isinstance(text := said.get("result"), str):
        return text
    errors = said.get("errors")
    return "\n".join(one for one in errors if isinstance(one, str)) if isinstance(errors, list) else ""


def final_answer(lines: Sequence[bytes]) -> str | None:
    """The answer of the last turn that had one; None when the last turn failed, or there is none."""
    for line in reversed(lines):
        said = _result(line)
        if said is None:
            continue
        if said.get("is_error") is not False:
            return None
        if text := storable(result_text(said)).strip("\n"):
            return f"{text}\n"
    return None


def storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _result(line: bytes) -> Mapping[str, Any] | None:
    try:
        said = parsed(line) if b'"result"' in line else None
    except RecursionError:
        return None
    return said if said and said.get("type") == "result" else None


def _count_costs(seen: ClaudeSeen, said: Mapping[str, Any]) -> None:
    """The agent's own counts are of its whole session: the last ones hold."""
    cost_usd, models = number(said.get("total_cost_usd")), mapping(said.get("modelUsage"))
    if cost_usd is not None:
        seen.cost_usd = round(cost_usd, 6)
    if models:
        seen.models = {name(model): _usage(mapping(models[model])) for model in list(models)[:MAX_KEPT]}


def _usage(used: Mapping[str, Any]) -> dict[str, Any]:
    cost_usd = number(used.get("costUSD"))
    return {
        **{ours: count(used.get(theirs)) for ours, theirs in _TOKENS.items()},
        "cost_usd": None if cost_usd is None else round(cost_usd, 6),
    }
