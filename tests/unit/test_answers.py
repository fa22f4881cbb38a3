"""What may be answered to an agent's question, and what an answer means."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.answers import check_answer, chosen, permission
from orchestrator.models import Question

COLOR = {"question": "Which color?", "header": "Color", "options": [{"label": "Red"}, {"label": "Dark Blue"}]}
SIZES = {
    "question": "Which sizes?",
    "header": "Sizes",
    "options": [{"label": "S"}, {"label": "M"}, {"label": "L, wide"}],
    "multiSelect": True,
}


def question(kind: str = "question", *questions: dict[str, Any], options: tuple[str, ...] = ()) -> Question:
    request = {"request_id": "q", **({"questions": list(questions)} if questions else {})}
    return Question("q", datetime.now(UTC), kind, "text", options, request)


@pytest.mark.parametrize("answer", ["", "  \n"])
@pytest.mark.parametrize("kind", ["question", "permission", "message"])
def test_nothing_is_no_answer(kind: str, answer: str) -> None:
    with pytest.raises(ValueError, match="the answer to question q is empty; write"):
        check_answer(question(kind), answer)


def test_an_empty_answer_is_told_the_options() -> None:
    with pytest.raises(ValueError, match="write one of Red, Dark Blue, or a text of your own"):
        check_answer(question("question", COLOR, options=("Red", "Dark Blue")), "")


@pytest.mark.parametrize(("answer", "meant"), [("allow", (True, "")), (" ALLOW\n", (True, "")), ("deny", (False, ""))])
def test_a_permission_is_given_or_refused(answer: str, meant: tuple[bool, str]) -> None:
    assert permission(answer) == meant
    check_answer(question("permission"), answer)


@pytest.mark.parametrize("answer", ["deny not this file", "Deny: not this file", "deny\nnot this file"])
def test_a_refusal_may_have_a_reason(answer: str) -> None:
    assert permission(answer) == (False, "not this file")


@pytest.mark.parametrize("answer", ["yes", "allowed", "no", "allow it, but carefully", "denyall", '{"a": 1}'])
def test_anything_else_is_no_permission(answer: str) -> None:
    with pytest.raises(ValueError, match=r"the answer does not fit question q: .*allow"):
        check_answer(question("permission"), answer)


def test_a_message_may_be_anything() -> None:
    check_answer(question("message"), "go on")


def test_an_answer_that_names_an_option_means_it() -> None:
    assert chosen([COLOR], " dark blue ") == {"Which color?": "Dark Blue"}


def test_any_other_text_is_an_answer_too() -> None:
    assert chosen([COLOR], "green, as grass") == {"Which color?": "green, as grass"}
    check_answer(question("question", COLOR), "green, as grass")


def test_of_several_options_more_than_one_may_be_named() -> None:
    assert chosen([SIZES], "m,S") == {"Which sizes?": "M, S"}
    assert chosen([SIZES], "l, WIDE") == {"Which sizes?": "L, wide"}
    assert chosen([SIZES], "m and more") == {"Which sizes?": "m and more"}


def test_where_one_is_to_be_chosen_two_are_a_text() -> None:
    assert chosen([COLOR], "red, dark blue") == {"Which color?": "red, dark blue"}


@pytest.mark.parametrize(
    "answer", ['{"Which color?": "red", "Which sizes?": "s, m"}', '{"Sizes": "s, m", "Color": "red"}']
)
def test_several_questions_are_answered_by_name(answer: str) -> None:
    assert chosen([COLOR, SIZES], answer) == {"Which color?": "Red", "Which sizes?": "S, M"}
    check_answer(question("question", COLOR, SIZES), answer)


def test_a_single_question_may_be_answered_by_name() -> None:
    assert chosen([COLOR], '{"Color": "RED"}') == {"Which color?": "Red"}
    assert chosen([COLOR], '{"json": "as a text"}') == {"Which color?": '{"json": "as a text"}'}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("red", "answer all by a JSON object"),
        ("[1]", "answer all by a JSON object"),
        ('{"Which color?": "red"}', '"Which sizes\\?" has no answer'),
        ('{"Which color?": "red", "Shape": "round"}', '"Shape": "round" answers none of them'),
        ('{"Which color?": 7, "Which sizes?": "s"}', '"Which color\\?": 7 answers none'),
        ('{"Which color?": " ", "Which sizes?": "s"}', "answers none"),
        ("{}", "has no answer"),
    ],
)
def test_several_questions_are_answered_all_and_nothing_else(answer: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        check_answer(question("question", COLOR, SIZES), answer)
    assert '{"Which color?": "Red", "Which sizes?": "S"}' in str(refused.value)


@settings(deadline=None)
@given(st.text(), st.sampled_from(["question", "permission"]), st.lists(st.sampled_from([COLOR, SIZES]), max_size=2))
def test_an_answer_is_refused_or_means_something(answer: str, kind: str, questions: list[dict[str, Any]]) -> None:
    try:
        check_answer(question(kind, *questions), answer)
    except ValueError:
        return
    if kind == "permission":
        assert permission(answer)[0] in (True, False)
    elif questions:
        assert set(chosen(questions, answer)) == {one["question"] for one in questions}
