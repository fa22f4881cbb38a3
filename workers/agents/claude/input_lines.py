"""What the agent is told, as lines of its standard input (pure).

Each line has an id that the agent repeats when it takes the line in; the number of the input can be read from it.
The agent knows its messages by these ids for as long as its session lives, resumed ones included, and takes one that
it has seen before only once: so an id holds, beside the number, what no other session has.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from typing import Any

from orchestrator.answers import chosen, permission
from orchestrator.models import Input
from workers.agents.claude.tool_limits import ASK

PROMPT = 0
"""The number of the prompt; what people send is counted from 1."""
MAX_NUMBER = 0xFFFF

_VERSION_8 = 0x8
_MARK = 0x8_5A17_B0C5_AD0
"""Of the ids that are made here; its first digit says that they have the form of a UUID."""


def message_id(salt: str, number: int) -> str:
    """The id of an input. `salt` is the same whenever the same input is told again."""
    salted = int.from_bytes(hashlib.sha256(salt.encode()).digest()[:8])
    high = salted & ~(0xF << 12) | _VERSION_8 << 12
    return str(uuid.UUID(int=high << 64 | _MARK << 16 | number))


def number_of(text: object) -> int | None:
    """The number of the input with this id; None for an id that was not made here."""
    try:
        low = uuid.UUID(str(text)).int & (1 << 64) - 1
    except ValueError:
        return None
    return low & MAX_NUMBER if low >> 16 == _MARK else None


def prompt_line(prompt: str, session_id: str) -> str:
    return _message(message_id(session_id, PROMPT), prompt)


def input_line(given: Input) -> str:
    """A message, or the answer to a question that `check_answer` has let pass."""
    told_id = message_id(given.at.isoformat(), given.number)
    if given.answer is None:
        return _message(told_id, given.text or "")
    decision = {"subtype": "success", "request_id": given.request["request_id"], "response": _decision(given)}
    return _line({"type": "control_response", "uuid": told_id, "response": decision})


def _message(told_id: str, text: str) -> str:
    # A text that begins with "/" would be a command to the command line itself, and never reach the model.
    shown = f"\n{text}" if text.startswith("/") else text
    message = {"role": "user", "content": [{"type": "text", "text": shown}]}
    return _line({"type": "user", "uuid": told_id, "message": message})


def _decision(given: Input) -> Mapping[str, Any]:
    """The permission that was asked for, or the answers inside the input of the tool that asks questions.

    A permission repeats no input: what is known of it here has its secrets masked, and would run like that. Questions
    that were too many to be kept are answered by the reason why they are not asked.
    """
    answer, questions = given.answer or "", given.request.get("questions")
    if given.request.get("tool") == ASK and questions is None:
        return {"behavior": "deny", "message": answer}
    if questions is not None:
        return {"behavior": "allow", "updatedInput": {"questions": questions, "answers": chosen(questions, answer)}}
    is_allowed, why = permission(answer)
    return {"behavior": "allow"} if is_allowed else {"behavior": "deny", "message": why or "a person has denied this"}


def _line(said: Mapping[str, Any]) -> str:
    return json.dumps(said, ensure_ascii=True, separators=(",", ":"))
