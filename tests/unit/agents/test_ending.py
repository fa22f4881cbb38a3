"""What the end of the agent means, by its exit code and its last result."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from orchestrator.outcomes import Fault, Outcome, Reason
from tests.unit.agents.recorded import AGENT, EXIT_CODES, lines_of, manifest, outcome_of, read
from workers.agents.claude.seen import ClaudeSeen


def outcome(exit_code: int, *, oom_killed: bool = False, **seen: Any) -> Outcome:
    return AGENT.outcome(manifest(), exit_code, oom_killed=oom_killed, seen=asdict(ClaudeSeen(**seen)))


def result(**differing: Any) -> dict[str, Any]:
    return {"is_error": False, "subtype": "success", "reason": "completed", "status": None, "text": "", **differing}


def api_error(status: int | None, text: str = "API Error") -> dict[str, Any]:
    return result(is_error=True, reason="api_error", status=status, text=text)


@pytest.mark.parametrize(
    ("name", "reason", "fault"),
    [
        ("success", Reason.EXIT_ZERO, None),
        ("background", Reason.EXIT_ZERO, None),
        ("overloaded_for_a_while", Reason.EXIT_ZERO, None),
        ("permission_denied", Reason.EXIT_ZERO, None),
        ("api_400", Reason.AGENT_ERROR, Fault.USER),
        ("unknown_model", Reason.AGENT_ERROR, Fault.USER),
        ("unauthorized", Reason.AGENT_ERROR, Fault.PLATFORM),
        ("overloaded", Reason.AGENT_ERROR, Fault.PLATFORM),
        ("unreachable", Reason.AGENT_ERROR, Fault.PLATFORM),
        ("question_left", Reason.AGENT_ERROR, Fault.USER),
        ("max_turns", Reason.AGENT_MAX_TURNS, Fault.USER),
        ("budget", Reason.AGENT_BUDGET, Fault.USER),
        ("relay_budget", Reason.AGENT_BUDGET, Fault.USER),
        ("session_unknown", Reason.SESSION_UNAVAILABLE, Fault.USER),
    ],
)
def test_the_real_agent_s_endings_are_classified(name: str, reason: Reason, fault: Fault | None) -> None:
    found = outcome_of(name)
    assert (found.reason, found.fault) == (reason, fault)
    assert found.exit_code == EXIT_CODES[name]
    assert (found.hint is None) == (reason is Reason.EXIT_ZERO)


def test_a_finished_agent_tells_how_many_turns_it_took() -> None:
    assert outcome_of("success").message == "the agent finished after 2 turns"


def test_a_finished_agent_tells_what_it_lacked() -> None:
    assert "MCP server missing is not there (failed)" in outcome_of("mcp_failed").message


def test_a_failing_api_is_told_with_its_status_and_words() -> None:
    assert "status 400" in outcome_of("api_400").message
    assert "max_tokens: too large" in outcome_of("api_400").message
    assert "status 529" in outcome_of("overloaded").message
    assert "could not be reached" in outcome_of("unreachable").message


@pytest.mark.parametrize("status", [401, 403, 429, 500, 502, 503, 529, None])
def test_the_key_and_the_state_of_the_api_are_the_platform_s_fault(status: int | None) -> None:
    assert outcome(1, session_id="s", result=api_error(status)).fault is Fault.PLATFORM


@pytest.mark.parametrize("status", [400, 404, 413])
def test_what_was_asked_of_the_api_is_the_user_s_fault(status: int) -> None:
    assert outcome(1, session_id="s", result=api_error(status)).fault is Fault.USER


def test_what_to_do_depends_on_what_failed() -> None:
    assert "key" in (outcome(1, result=api_error(401)).hint or "")
    assert "claude.model" in (outcome(1, result=api_error(404)).hint or "")
    assert "lifecycle.retry" in (outcome(1, result=api_error(529)).hint or "")
    assert "claude.max_turns" in (outcome_of("max_turns").hint or "")
    assert "claude.max_budget_usd" in (outcome_of("relay_budget").hint or "")


def test_a_model_that_speaks_of_a_budget_has_not_used_it_up() -> None:
    said = result(is_error=True, subtype="error_during_execution", reason="aborted_tools", text="my budget is gone")
    assert outcome(1, session_id="s", result=said).reason is Reason.AGENT_ERROR


def test_an_error_counts_although_the_exit_code_is_zero() -> None:
    said = result(is_error=True, subtype="error_during_execution", reason="aborted_tools")
    found = outcome(0, session_id="s", result=said)
    assert (found.reason, found.exit_code) == (Reason.AGENT_ERROR, 0)
    assert "aborted_tools" in found.message


def test_an_error_of_an_earlier_turn_does_not_count() -> None:
    lines = [*lines_of("api_400"), *lines_of("success")]
    assert outcome(0, **asdict(read(lines).seen)).reason is Reason.EXIT_ZERO


def test_an_agent_that_did_not_begin_points_at_its_standard_error() -> None:
    found = outcome(1)
    assert (found.reason, found.fault, found.exit_code) == (Reason.AGENT_ERROR, Fault.USER, 1)
    assert "before it began to work" in found.message
    assert "--stream stderr" in (found.hint or "")


def test_an_agent_whose_output_nobody_read_did_not_begin() -> None:
    assert AGENT.outcome(manifest(), 1, oom_killed=False, seen=None).reason is Reason.AGENT_ERROR


def test_an_end_without_a_result_is_an_error_whatever_the_exit_code() -> None:
    found = outcome(0, session_id="s")
    assert found.reason is Reason.AGENT_ERROR
    assert "without a result" in found.message


@pytest.mark.parametrize("seen", [{}, {"session_id": "s"}, {"session_id": "s", "result": api_error(400)}])
@pytest.mark.parametrize(("exit_code", "signal"), [(143, 15), (137, 9), (129, 1)])
def test_a_signal_is_told_as_one(exit_code: int, signal: int, seen: dict[str, Any]) -> None:
    found = outcome(exit_code, **seen)
    assert (found.reason, found.signal) == (Reason.EXIT_NONZERO, signal)


def test_an_agent_that_was_killed_for_memory_is_told_its_limit() -> None:
    found = outcome(137, oom_killed=True, session_id="s")
    assert found.reason is Reason.OOM_KILLED
    assert "its memory limit of 8G" in found.message


def test_a_tool_that_was_killed_for_memory_is_not_the_agent_s_end() -> None:
    assert outcome(0, oom_killed=True, session_id="s", result=result()).reason is Reason.EXIT_ZERO
    assert outcome(1, oom_killed=True, session_id="s", result=api_error(529)).reason is Reason.AGENT_ERROR


def test_a_crash_after_a_good_result_is_a_failure() -> None:
    assert outcome(1, session_id="s", result=result()).reason is Reason.EXIT_NONZERO
