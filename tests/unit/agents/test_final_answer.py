"""The final answer of an agent's run, as Markdown."""

from __future__ import annotations

import json

import pytest

from tests.unit.agents.recorded import AGENT, lines_of


def result(text: str | None, *, is_error: bool = False) -> bytes:
    return json.dumps({"type": "result", "is_error": is_error, "result": text}).encode()


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("success", "It is *done*.\n"),
        ("background", "It is over.\n"),
        ("message_mid_run", "I have read it.\n"),
        ("api_400", None),
        ("max_turns", None),
        ("question_left", None),
    ],
)
def test_it_is_the_text_of_the_last_result(name: str, answer: str | None) -> None:
    assert AGENT.answer(lines_of(name)) == answer


def test_without_a_result_there_is_none() -> None:
    assert AGENT.answer([]) is None
    assert AGENT.answer(lines_of("success")[:-2]) is None


def test_an_answer_before_a_failure_is_not_the_final_one() -> None:
    assert AGENT.answer([result("done"), result("API Error", is_error=True)]) is None


def test_a_turn_without_words_does_not_hide_the_answer() -> None:
    assert AGENT.answer([result("# Report\n\nAll well.\n\n"), result(""), result(None)]) == "# Report\n\nAll well.\n"


def test_broken_lines_and_words_about_results_are_passed_over() -> None:
    noise = [
        b'{"type":"result","is_er',
        b'{"type":"assistant","text":"\\"result\\""}',
        b'"result"',
        b'{"result":' * 9999,
    ]
    assert AGENT.answer([result("done"), *noise]) == "done\n"


def test_half_characters_are_mended() -> None:
    found = AGENT.answer([result("a\ud800b")])
    assert found == "a?b\n"
