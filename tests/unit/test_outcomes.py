"""Why an attempt ended and whose fault it was."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.outcomes import FAULT, RETRIED_BY_DEFAULT, Fault, Outcome, Reason, failure, of_exit, stopped


def test_the_reasons_are_those_of_the_contract() -> None:
    assert {reason.value for reason in Reason} == {
        "exit_zero", "exit_nonzero", "timeout", "idle_timeout", "oom_killed", "disk_exceeded", "clone_failed",
        "image_unavailable", "secret_unavailable", "sandbox_error", "artifact_error", "worker_lost", "queue_expired",
        "unschedulable", "cancelled", "internal_error", "agent_not_found", "agent_not_runnable", "agent_error",
        "agent_max_turns", "agent_budget", "input_timeout", "session_unavailable",
    }  # fmt: skip


def test_every_reason_has_a_fault_and_only_success_and_cancellation_are_nobodys() -> None:
    assert set(FAULT) == set(Reason)
    assert {reason for reason, fault in FAULT.items() if fault is None} == {Reason.EXIT_ZERO, Reason.CANCELLED}


def test_the_platforms_faults_are_retried_by_default_and_a_cancellation_never() -> None:
    assert set(RETRIED_BY_DEFAULT) == {reason for reason in Reason if FAULT[reason] is Fault.PLATFORM}
    assert Reason.CANCELLED not in RETRIED_BY_DEFAULT
    assert Reason.WORKER_LOST in RETRIED_BY_DEFAULT


def test_exit_code_zero_is_a_success_even_when_the_kernel_killed_a_child() -> None:
    outcome = of_exit(0, oom_killed=True, memory="1G")
    assert (outcome.reason, outcome.fault, outcome.exit_code, outcome.signal) == (Reason.EXIT_ZERO, None, 0, None)


def test_the_kernels_report_beside_another_exit_code_is_oom_killed_with_the_limit() -> None:
    outcome = of_exit(137, oom_killed=True, memory="512M")
    assert (outcome.reason, outcome.fault, outcome.exit_code, outcome.signal) == (
        Reason.OOM_KILLED, Fault.USER, 137, 9,
    )  # fmt: skip
    assert "memory limit of 512M" in outcome.message
    assert outcome.hint is not None
    assert "vm.memory" in outcome.hint


def test_exit_code_137_without_the_kernels_report_is_a_signal_and_no_oom() -> None:
    outcome = of_exit(137, oom_killed=False)
    assert (outcome.reason, outcome.signal) == (Reason.EXIT_NONZERO, 9)
    assert "exit code 137 (signal 9)" in outcome.message


@pytest.mark.parametrize(
    ("exit_code", "signal"), [(1, None), (128, None), (129, 1), (143, 15), (192, 64), (193, None), (255, None)]
)
def test_a_signal_is_read_from_an_exit_code_above_128(exit_code: int, signal: int | None) -> None:
    outcome = of_exit(exit_code, oom_killed=False)
    assert (outcome.reason, outcome.exit_code, outcome.signal) == (Reason.EXIT_NONZERO, exit_code, signal)


@given(exit_code=st.integers(0, 255), oom_killed=st.booleans())
def test_any_exit_is_a_success_or_the_users_fault(exit_code: int, oom_killed: bool) -> None:
    outcome = of_exit(exit_code, oom_killed=oom_killed)
    assert outcome.fault is FAULT[outcome.reason]
    assert (outcome.reason is Reason.EXIT_ZERO) == (exit_code == 0)
    assert (outcome.reason is Reason.OOM_KILLED) == (oom_killed and exit_code != 0)
    assert outcome.message


def test_a_failure_takes_its_reasons_usual_fault_unless_a_step_knows_better() -> None:
    assert failure(Reason.CLONE_FAILED, "the host is away").fault is Fault.PLATFORM
    assert failure(Reason.CLONE_FAILED, "no such branch", fault=Fault.USER).fault is Fault.USER


def test_the_exit_code_of_a_command_that_was_stopped_is_no_signal_of_its_own() -> None:
    outcome = stopped(Reason.TIMEOUT, "the command ran too long", 143, hint="do less")
    assert (outcome.reason, outcome.fault, outcome.exit_code, outcome.signal) == (
        Reason.TIMEOUT, Fault.USER, 143, None,
    )  # fmt: skip
    assert outcome.hint == "do less"


@pytest.mark.parametrize(
    "outcome",
    [
        of_exit(0, oom_killed=False),
        of_exit(137, oom_killed=True, memory="1G"),
        failure(Reason.WORKER_LOST, "worker w was lost", hint="see the fleet"),
        stopped(Reason.CANCELLED, "cancelled by a", None),
    ],
)
def test_an_outcome_survives_the_store(outcome: Outcome) -> None:
    stored = json.loads(json.dumps(outcome.to_dict()))
    assert set(stored) == {"reason", "fault", "exit_code", "signal", "message", "hint"}
    assert Outcome.from_dict(stored) == outcome
