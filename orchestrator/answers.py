"""What may be answered to an agent's question, and what an answer means (pure).

Where an agent asks several things at once, `Question.request["questions"]` lists them: each has `question`, may have
`header`, `options` with their `label`s, and `multiSelect`. Of such questions any text is an answer; one that names a
label means that option.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.models import Question

MAX_INPUTS = 1000
"""Messages and answers that one task takes."""
PERMISSION = "permission"
PERMISSION_OPTIONS = ("allow", "deny")


def check_answer(question: Question, answer: str) -> None:
    """Raise `ValueError`, with what to write instead, when `answer` is none to this question."""
    if not answer.strip():
        raise ValueError(f"the answer to question {question.id} is empty; {_what_to_write(question)}")
    try:
        if question.kind == PERMISSION:
            permission(answer)
        elif "questions" in question.request:
            chosen(question.request["questions"], answer)
    except ValueError as error:
        raise ValueError(f"the answer does not fit question {question.id}: {error}") from error


def permission(answer: str) -> tuple[bool, str]:
    """Whether it is allowed, and what else the answer says. Raises `ValueError`."""
    first, *rest = answer.split(maxsplit=1) or [""]
    word, why = first.rstrip(":,.").lower(), "".join(rest).strip()
    if word not in PERMISSION_OPTIONS:
        raise ValueError('a permission is given by "allow", or refused by "deny", which may be followed by the reason')
    if word == "allow" and why:
        raise ValueError('"allow" stands alone: what else there is to say can be sent as a message')
    return word == "allow", why


def chosen(questions: Sequence[Mapping[str, Any]], answer: str) -> dict[str, str]:
    """The answer to each question, by its text. Raises `ValueError`."""
    by_name = _by_name(questions, answer)
    if by_name is None:
        if len(questions) > 1:
            raise ValueError(_many(questions))
        return {_text(one): _option(one, answer) for one in questions}
    found: dict[str, str] = {}
    for name, given in by_name.items():
        one = next((one for one in questions if name in (_text(one), one.get("header"))), None)
        if one is None or not isinstance(given, str) or not given.strip():
            raise ValueError(f"{json.dumps(name)}: {json.dumps(given)} answers none of them; {_many(questions)}")
        found[_text(one)] = _option(one, given)
    missing = [_text(one) for one in questions if _text(one) not in found]
    if missing:
        raise ValueError(f"{json.dumps(missing[0])} has no answer; {_many(questions)}")
    return found


def _by_name(questions: Sequence[Mapping[str, Any]], answer: str) -> dict[str, Any] | None:
    """The answer as an object, where it is one; a single question may be answered by any text, such an one too."""
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    names = {name for one in questions for name in (_text(one), one.get("header"))}
    return found if len(questions) > 1 or names & set(found) else None


def _option(question: Mapping[str, Any], answer: str) -> str:
    """The answer with each label that it names in the label's own spelling."""
    labels = {str(option["label"]).casefold(): str(option["label"]) for option in question.get("options", ())}
    text = answer.strip()
    if text.casefold() in labels:
        return labels[text.casefold()]
    parts = [part.strip() for part in text.split(",")]
    if question.get("multiSelect") and all(part.casefold() in labels for part in parts):
        return ", ".join(labels[part.casefold()] for part in parts)
    return text


def _text(question: Mapping[str, Any]) -> str:
    return str(question["question"])


def _many(questions: Sequence[Mapping[str, Any]]) -> str:
    example = {_text(one): next((str(option["label"]) for option in one.get("options", ())), "…") for one in questions}
    return f"answer all by a JSON object, such as {json.dumps(example, ensure_ascii=False)}"


def _what_to_write(question: Question) -> str:
    if question.kind == PERMISSION:
        return 'write "allow", or "deny" and the reason'
    if question.options:
        return f"write one of {', '.join(question.options)}, or a text of your own"
    return "write a text"
