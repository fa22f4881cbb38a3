"""What the agent asks of people, and what of theirs it has taken in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from orchestrator.answers import MAX_INPUTS, PERMISSION, PERMISSION_OPTIONS
from orchestrator.models import Question
from workers.agents.claude.input_lines import number_of
from workers.agents.claude.json_lines import cut, mapping, name, objects
from workers.agents.claude.seen import ClaudeSeen, keep
from workers.agents.claude.summaries import call_summary
from workers.agents.claude.tool_limits import ASK
from workers.agents.port import AgentEvent, Told

MAX_OPEN = 20
"""It asks a few at once at most; a program that writes to its output could forge any number."""
MAX_ASKED = 1000
# People are told to type it.
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
TEXT_BYTES = 16 << 10
REQUEST_BYTES = 64 << 10
"""Of several questions with all their options: far more than a person would read."""
WISH_BYTES = 2 << 10
"""Of what a tool is to be used for: whoever allows it should have read it."""
_PARTS_OF_AN_OPTION = ("label", "description", "preview")
_OVER = ("completed", "cancelled")


def asked(seen: ClaudeSeen, said: Mapping[str, Any], at: float) -> Told:
    """It wants to use a tool that it may not use by itself, or uses the one that asks questions."""
    request, request_id = mapping(said.get("request")), name(said.get("request_id"))
    if request.get("subtype") != "can_use_tool" or not _ID.fullmatch(request_id):
        return Told()
    if len(seen.questions) >= MAX_OPEN and request_id not in seen.questions:
        seen.add_problem(f"more than {MAX_OPEN} questions wait at once: the rest is not asked")
        return Told()
    if seen.asked >= MAX_ASKED:
        seen.add_problem(f"it has asked {MAX_ASKED} times: nothing more is asked")
        return Told()
    seen.asked += 1
    seen.resting = False
    keep(seen.questions, request_id, name(request.get("tool_use_id")))
    question = _question(request_id, request, datetime.fromtimestamp(at, UTC))
    body = {"id": question.id, "kind": question.kind, "text": question.text, "options": list(question.options)}
    return Told([AgentEvent("input_required", body)], asked=[question])


def cancelled(seen: ClaudeSeen, said: Mapping[str, Any], _at: float) -> Told:
    """It does not wait any more, because its turn was ended from outside."""
    request_id = name(said.get("request_id"))
    seen.questions.pop(request_id, None)
    return Told([AgentEvent("input_withdrawn", {"id": request_id})], withdrawn=[request_id])


def settled(seen: ClaudeSeen, tool_use_ids: Sequence[str]) -> list[str]:
    """Forget the questions about these calls, which are over; return their ids."""
    over = [request_id for request_id, tool_use_id in seen.questions.items() if tool_use_id in tool_use_ids]
    for request_id in over:
        del seen.questions[request_id]
    return over


def taken_in(seen: ClaudeSeen, said: Mapping[str, Any], _at: float) -> Told:
    """It repeats what it was told; what it had nothing to do with is over at once."""
    told_id = said.get("uuid")
    if said.get("type") == "command_lifecycle":
        told_id = said.get("command_uuid") if said.get("state") in _OVER else None
    number = number_of(told_id)
    if number is not None and number <= MAX_INPUTS and number not in seen.taken:
        seen.taken.append(number)
    return Told()


def _question(request_id: str, request: Mapping[str, Any], at: datetime) -> Question:
    tool, given = name(request.get("tool_name")), mapping(request.get("input"))
    if tool != ASK:
        wish, is_cut = call_summary(tool, given, WISH_BYTES)
        text = f"the agent wants to use {tool}: {wish}{' …' if is_cut else ''}"
        return Question(request_id, at, PERMISSION, text, PERMISSION_OPTIONS, {"request_id": request_id, "tool": tool})
    questions = [_cleaned(one) for one in objects(given.get("questions"))]
    kept = {"request_id": request_id, "tool": tool, "questions": questions}
    if not questions or len(json.dumps(kept)) > REQUEST_BYTES:
        del kept["questions"]
        questions = questions[:1] or [{"question": "the agent asks, and does not say what", "options": []}]
    text = cut("\n".join(_lines(questions)), TEXT_BYTES)[0]
    options = tuple(one["label"] for one in questions[0]["options"]) if len(questions) == 1 else ()
    return Question(request_id, at, "question", text, options if "questions" in kept else (), kept)


def _cleaned(question: Mapping[str, Any]) -> dict[str, Any]:
    """A question as it is repeated with its answer."""
    options = [
        {key: cut(one[key], REQUEST_BYTES)[0] for key in _PARTS_OF_AN_OPTION if isinstance(one.get(key), str)}
        for one in objects(question.get("options"))
    ]
    return {
        "question": cut(question.get("question"), TEXT_BYTES)[0],
        "header": name(question.get("header")),
        "options": [{"label": "", "description": "", **one} for one in options],
        "multiSelect": question.get("multiSelect") is True,
    }


def _lines(questions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The options of a single question are listed beside its text, so only what they mean is in it."""
    for one in questions:
        told = [f"{option['label']}: {option['description']}" for option in one["options"] if option["description"]]
        several = " (several may be chosen)" if one.get("multiSelect") else ""
        if len(questions) == 1:
            yield f"{one['question']}{several}" + (f" ({'; '.join(told)})" if told else "")
        else:
            yield f"{one['question']}{several}"
            yield from (f"- {option['label']}: {option['description']}" for option in one["options"])
