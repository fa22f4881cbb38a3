"""One answer of the Messages API: as one message, or as the events of a stream."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.model_api.scenarios import Step

USAGE = {"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 5}
"""What each answer is said to have cost, unless its step says otherwise."""

WORD = "text_delta"
_WORDS = re.compile(r"\s*\S+|\s+")


def message(step: Step, model: str, number: str) -> dict[str, Any]:
    """The answer in one piece. `number` makes its ids unlike those of every other answer."""
    content = [_block(block, f"toolu_{number}_{index}") for index, block in enumerate(step["blocks"])]
    uses_tools = any(block["type"] == "tool_use" for block in content)
    return {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": "tool_use" if uses_tools else "end_turn",
        "stop_sequence": None,
        "usage": {**USAGE, **step.get("usage", {})},
    }


def events(whole: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The same answer as a stream. A text comes word by word."""
    usage = whole["usage"]
    begun = {**whole, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield {"type": "message_start", "message": begun}
    for index, block in enumerate(whole["content"]):
        empty: dict[str, Any] = {"text": ""} if block["type"] == "text" else {"input": {}}
        yield {"type": "content_block_start", "index": index, "content_block": {**block, **empty}}
        for delta in _deltas(block):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ended = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": {"output_tokens": usage["output_tokens"]}}
    yield {"type": "message_stop"}


def encoded(event: Mapping[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def is_word(event: Mapping[str, Any]) -> bool:
    return bool(event.get("delta", {}).get("type") == WORD)


def _block(block: Mapping[str, Any], tool_use_id: str) -> dict[str, Any]:
    if "text" in block:
        return {"type": "text", "text": block["text"]}
    return {"type": "tool_use", "id": tool_use_id, "name": block["tool"], "input": block["input"]}


def _deltas(block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if block["type"] == "text":
        for word in _WORDS.findall(block["text"]):
            yield {"type": WORD, "text": word}
    else:
        yield {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
