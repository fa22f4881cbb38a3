"""What people send, as the lines that the agent reads."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.models import Input
from tests.unit.agents.recorded import AGENT
from workers.agents.claude.input_lines import MAX_NUMBER, message_id, number_of

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
QUESTIONS = [{"question": "Which color?", "header": "Color", "options": [{"label": "Red"}, {"label": "Blue"}]}]


def said(**sent: Any) -> dict[str, Any]:
    line = AGENT.said(Input(sent.pop("number", 1), sent.pop("at", AT), **sent))
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


def answered(answer: str, **request: Any) -> dict[str, Any]:
    found = said(question_id="r", answer=answer, request={"request_id": "r", **request})
    assert (found["type"], found["response"]["subtype"], found["response"]["request_id"]) == (
        "control_response",
        "success",
        "r",
    )
    response: dict[str, Any] = found["response"]["response"]
    return response


def test_a_message_is_a_message_of_the_user() -> None:
    found = said(text="go on\nplease")
    assert found["type"] == "user"
    assert found["message"] == {"role": "user", "content": [{"type": "text", "text": "go on\nplease"}]}


def test_a_message_that_begins_with_a_slash_is_no_command() -> None:
    assert said(text="/clear")["message"]["content"][0]["text"] == "\n/clear"


def test_half_characters_do_not_break_the_line() -> None:
    assert said(text="\ud800")["message"]["content"][0]["text"] == "\ud800"


def test_a_permission_is_given_without_repeating_what_for() -> None:
    assert answered("allow", tool="Bash") == {"behavior": "allow"}


def test_a_permission_is_refused_with_the_reason() -> None:
    assert answered("Deny: not this file", tool="Write") == {"behavior": "deny", "message": "not this file"}
    assert answered("deny", tool="Write") == {"behavior": "deny", "message": "a person has denied this"}


def test_an_answer_is_given_inside_the_questions() -> None:
    found = answered("blue", tool="AskUserQuestion", questions=QUESTIONS)
    assert found == {
        "behavior": "allow",
        "updatedInput": {"questions": QUESTIONS, "answers": {"Which color?": "Blue"}},
    }


def test_questions_that_were_not_kept_are_answered_all_the_same() -> None:
    assert answered("the blue one", tool="AskUserQuestion") == {"behavior": "deny", "message": "the blue one"}


def test_the_id_of_a_line_tells_its_number() -> None:
    assert number_of(said(number=17, text="x")["uuid"]) == 17
    found = said(number=4, question_id="r", answer="allow", request={"request_id": "r", "tool": "Bash"})
    assert number_of(found["uuid"]) == 4


def test_the_same_input_told_again_has_the_same_id_and_another_task_s_has_not() -> None:
    first = said(text="x")["uuid"]
    assert said(text="x")["uuid"] == first
    assert said(text="x", at=AT + timedelta(microseconds=1))["uuid"] != first


@settings(deadline=None)
@given(st.text(), st.integers(0, MAX_NUMBER))
def test_every_id_is_a_uuid_from_which_the_number_can_be_read(salt: str, number: int) -> None:
    found = uuid.UUID(message_id(salt.encode("utf-8", "replace").decode(), number))
    assert (found.variant, found.version) == (uuid.RFC_4122, 8)
    assert number_of(str(found)) == number


@pytest.mark.parametrize("stranger", [None, 7, "", "x", "e797267b-3e7a-4fdf-ae00-b009ef392aec", ["a"], "9" * 100_000])
def test_ids_of_others_have_no_number(stranger: object) -> None:
    assert number_of(stranger) is None
