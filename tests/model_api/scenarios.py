"""What the stub of the Messages API says: scenarios by name, each a list of steps.

All of it is JSON, so that a demo may keep its script in a file.

A step is one of

    {"blocks": [{"text": "…"} | {"tool": "Bash", "input": {…}}, …], "usage"?: {…}, "seconds_per_word"?: 0.5}
    {"refuse": 529, "message"?: "…", "times"?: 2}      without `times`: for ever
    {"hang": true}                                     until `ModelApi.release()`

Only a step of the first kind is an answer. The others stand in front of the next one, so the conversation alone
tells which answer is due: as many are given as it has assistant messages. The scenario is the one whose marker
(`SCENARIO:name`) a user's message names last, and counting begins there; without a marker it is `default`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Step = Mapping[str, Any]
Script = Mapping[str, Sequence[Step]]

DEFAULT = "default"
_MARKER = re.compile(r"SCENARIO:([A-Za-z0-9_-]+)")
_FORMS: tuple[tuple[str, frozenset[str]], ...] = (
    ("blocks", frozenset({"blocks", "usage", "seconds_per_word"})),
    ("refuse", frozenset({"refuse", "message", "times"})),
    ("hang", frozenset({"hang"})),
)
_BLOCKS = ({"text"}, {"tool", "input"})


class BadRequest(Exception):
    """A request that the real API would refuse, or that no scenario has an answer to."""


def marker(name: str) -> str:
    """What a prompt holds to choose the scenario."""
    return f"SCENARIO:{name}"


def text(words: str) -> dict[str, Any]:
    return {"text": words}


def tool(name: str, **given: Any) -> dict[str, Any]:
    return {"tool": name, "input": given}


def answer(*blocks: Mapping[str, Any] | str, usage: Mapping[str, int] | None = None, **more: Any) -> dict[str, Any]:
    """An answer of texts and tool calls; `usage` replaces some of its token counts."""
    step = {"blocks": [text(block) if isinstance(block, str) else dict(block) for block in blocks], **more}
    return {**step, "usage": dict(usage)} if usage else step


def refuse(status: int, message: str = "refused by the stub", times: int | None = None) -> dict[str, Any]:
    step: dict[str, Any] = {"refuse": status, "message": message}
    return step if times is None else {**step, "times": times}


HANG: Step = {"hang": True}


def check(script: Script) -> None:
    """Raise `ValueError` at the first step that is none."""
    for name, steps in script.items():
        if not _MARKER.fullmatch(marker(name)):
            raise ValueError(f"scenario {name!r}: a name has letters, digits, '_' and '-'; rename it")
        for number, step in enumerate(steps):
            keys = next((keys for kind, keys in _FORMS if kind in step), frozenset[str]())
            blocks = step.get("blocks", [])
            if not step or not set(step) <= keys or any(set(block) not in _BLOCKS for block in blocks):
                raise ValueError(f"scenario {name!r}, step {number}: {dict(step)} is no step; see {__name__}")


def due(script: Script, messages: Sequence[Mapping[str, Any]]) -> tuple[str, int, Sequence[Step], Step]:
    """The scenario's name, the number of the answer that is due, the steps in front of it, and itself.

    An answer that never comes, because the step before it refuses for ever, may be missing. Raises `BadRequest`.
    """
    name, given = DEFAULT, 0
    for message in messages:
        if message["role"] == "assistant":
            given += 1
        elif found := _MARKER.findall(_words(message["content"])):
            name, given = found[-1], 0
    if name not in script:
        raise BadRequest(f"the stub has no scenario {name!r}, only {sorted(script)}")
    gates: list[Step] = []
    left = given
    for step in script[name]:
        if "blocks" not in step:
            gates.append(step)
        elif left == 0:
            return name, given, gates, step
        else:
            left, gates = left - 1, []
    if left == 0 and any("times" not in gate and "refuse" in gate for gate in gates):
        return name, given, gates, {"blocks": []}
    raise BadRequest(f"scenario {name!r} has no answer {given}: it was asked more often than was expected")


def check_request(body: Mapping[str, Any]) -> None:
    """Raise `BadRequest` where the real API would: a tool call of an assistant must be answered at once."""
    for key in ("model", "max_tokens", "messages"):
        if key not in body:
            raise BadRequest(f"{key}: Field required")
    open_calls: set[str] = set()
    for message in body["messages"]:
        parts = message["content"] if isinstance(message["content"], list) else []
        results = {part["tool_use_id"] for part in parts if part["type"] == "tool_result"}
        if results != open_calls:
            raise BadRequest(f"tool_use ids {sorted(open_calls)} were answered by tool_result ids {sorted(results)}")
        open_calls = {part["id"] for part in parts if part["type"] == "tool_use"}


def _words(content: Any) -> str:
    """What a person, not a tool, wrote."""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")
