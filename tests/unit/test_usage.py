"""What a task has used, from what was noted of its attempts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator import usage
from orchestrator.models import Attempt
from orchestrator.states import State

START = datetime(2026, 1, 29, 12, 0, 0, tzinfo=UTC)
NOW = START + timedelta(seconds=100)
COUNTED = {
    "requests": 4, "failed": 1, "input_tokens": 10, "output_tokens": 20, "cache_read_tokens": 30,
    "cache_write_tokens": 40, "cost_usd": 0.5, "budget_exhausted": False,
    "models": {"m": {"requests": 3, "input_tokens": 10, "output_tokens": 20, "cost_usd": 0.1}},
}  # fmt: skip
SAID = {"turns": 3, "tool_calls": 7, "cost_usd": 0.75, "result": {"is_error": False}}


def attempt(number: int = 1, *, ran: float | None = None, ended: float | None = None, **facts: Any) -> Attempt:
    def after(seconds: float | None) -> datetime | None:
        return None if seconds is None else START + timedelta(seconds=seconds)

    return Attempt(
        "t", number, number, "w", State.RUNNING, START, after(ran), after(ended), None, None, None, None, None, None,
        None, None, output_bytes=0, dropped_bytes=0, preserved=False, **facts,
    )  # fmt: skip


def test_a_task_that_did_not_begin_has_used_nothing() -> None:
    nothing = {
        "wall_seconds": None, "cpu_seconds": None, "memory_peak_bytes": None, "disk_peak_bytes": None,
        "bytes_up": 0, "bytes_down": 0, "agent": None,
    }  # fmt: skip
    assert usage.of_task([], NOW, None) == nothing
    assert usage.of_attempt(attempt(), NOW, None) == nothing


def test_wall_time_ends_with_the_attempt_or_now_and_is_never_negative() -> None:
    assert usage.of_attempt(attempt(ran=10, ended=12.5), NOW, None)["wall_seconds"] == 2.5
    assert usage.of_attempt(attempt(ran=10), NOW, None)["wall_seconds"] == 90
    assert usage.of_attempt(attempt(ran=10, ended=9), NOW, None)["wall_seconds"] == 0


def test_attempts_add_up() -> None:
    first = attempt(1, ran=0, ended=10, bytes_up=1, bytes_down=2, agent=SAID, model_usage=COUNTED)
    second = attempt(2, ran=20, ended=25, bytes_up=10, bytes_down=20, agent=SAID, model_usage=COUNTED)
    third = attempt(3)
    used = usage.of_task([first, second, third], NOW, None)
    assert (used["wall_seconds"], used["bytes_up"], used["bytes_down"]) == (15, 11, 22)
    assert used["agent"] == {
        "turns": 6, "input_tokens": 20, "output_tokens": 40, "cache_read_tokens": 60, "cache_write_tokens": 80,
        "cost_usd": 1.5, "requests": 8,
        "models": {"m": {"requests": 6, "input_tokens": 20, "output_tokens": 40, "cost_usd": 0.2}},
    }  # fmt: skip
    assert used["agent"]["models"]["m"]["cost_usd"] == 0.2  # not 0.30000000000000004 of three tenths


def test_cpu_time_adds_up_and_a_peak_is_that_of_the_attempt_that_needed_most() -> None:
    first = attempt(1, cpu_seconds=1.23456, memory_peak_bytes=5, disk_peak_bytes=70)
    second = attempt(2, cpu_seconds=2.0, memory_peak_bytes=9)
    third = attempt(3)
    used = usage.of_task([first, second, third], NOW, None)
    assert (used["cpu_seconds"], used["memory_peak_bytes"], used["disk_peak_bytes"]) == (3.235, 9, 70)
    one = usage.of_attempt(second, NOW, None)
    assert (one["cpu_seconds"], one["memory_peak_bytes"], one["disk_peak_bytes"]) == (2.0, 9, None)


def test_the_cost_is_the_agents_own_once_it_gave_a_result_and_the_relays_estimate_before() -> None:
    def cost(**facts: Any) -> float | None:
        agent = usage.of_attempt(attempt(**facts), NOW, None)["agent"]
        found: float | None = agent["cost_usd"]
        return found

    assert cost(agent=SAID, model_usage=COUNTED) == 0.75
    assert cost(agent={**SAID, "result": None}, model_usage=COUNTED) == 0.5
    assert cost(agent={**SAID, "cost_usd": None}, model_usage=COUNTED) == 0.5
    assert cost(model_usage=COUNTED) == 0.5
    assert cost(agent={**SAID, "result": None}) is None
    assert cost(agent=SAID) == 0.75


def test_what_the_session_had_cost_before_is_not_the_tasks_own_in_any_attempt() -> None:
    again = [attempt(number, agent=SAID, model_usage=COUNTED) for number in (1, 2)]
    used = usage.of_task(again, NOW, 0.5)["agent"]
    assert used["cost_usd"] == 0.5
    assert usage.of_attempt(again[0], NOW, 9.0)["agent"]["cost_usd"] == 0
    estimated = attempt(agent={**SAID, "result": None}, model_usage=COUNTED)
    assert usage.of_attempt(estimated, NOW, 0.5)["agent"]["cost_usd"] == 0.5  # the relay counts this attempt alone


def test_an_agent_of_which_little_is_known_has_used_nothing_yet() -> None:
    empty: dict[str, Any] = {
        "turns": 0, "input_tokens": 0, "output_tokens": 0, "cache_read_tokens": 0, "cache_write_tokens": 0,
        "cost_usd": None, "requests": 0, "models": {},
    }  # fmt: skip
    assert usage.of_attempt(attempt(agent={}), NOW, None)["agent"] == empty
