"""Why an attempt ended and whose fault it was: the reasons, and the one classifier (pure)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Fault(StrEnum):
    USER = "user"
    PLATFORM = "platform"


class Reason(StrEnum):
    """Public API (contract §2). A value is never renamed."""

    EXIT_ZERO = "exit_zero"
    EXIT_NONZERO = "exit_nonzero"
    TIMEOUT = "timeout"
    IDLE_TIMEOUT = "idle_timeout"
    OOM_KILLED = "oom_killed"
    DISK_EXCEEDED = "disk_exceeded"
    CLONE_FAILED = "clone_failed"
    IMAGE_UNAVAILABLE = "image_unavailable"
    SECRET_UNAVAILABLE = "secret_unavailable"  # noqa: S105 - a reason, not a secret
    SANDBOX_ERROR = "sandbox_error"
    ARTIFACT_ERROR = "artifact_error"
    WORKER_LOST = "worker_lost"
    QUEUE_EXPIRED = "queue_expired"
    UNSCHEDULABLE = "unschedulable"
    CANCELLED = "cancelled"
    INTERNAL_ERROR = "internal_error"
    AGENT_NOT_FOUND = "agent_not_found"
    AGENT_NOT_RUNNABLE = "agent_not_runnable"
    AGENT_ERROR = "agent_error"
    AGENT_MAX_TURNS = "agent_max_turns"
    AGENT_BUDGET = "agent_budget"
    INPUT_TIMEOUT = "input_timeout"
    SESSION_UNAVAILABLE = "session_unavailable"


FAULT: dict[Reason, Fault | None] = {
    Reason.EXIT_ZERO: None,
    Reason.CANCELLED: None,
    Reason.EXIT_NONZERO: Fault.USER,
    Reason.TIMEOUT: Fault.USER,
    Reason.IDLE_TIMEOUT: Fault.USER,
    Reason.OOM_KILLED: Fault.USER,
    Reason.DISK_EXCEEDED: Fault.USER,
    Reason.QUEUE_EXPIRED: Fault.USER,
    Reason.UNSCHEDULABLE: Fault.USER,
    Reason.SECRET_UNAVAILABLE: Fault.USER,
    Reason.AGENT_NOT_FOUND: Fault.USER,
    Reason.AGENT_NOT_RUNNABLE: Fault.USER,
    Reason.AGENT_ERROR: Fault.USER,
    Reason.AGENT_MAX_TURNS: Fault.USER,
    Reason.AGENT_BUDGET: Fault.USER,
    Reason.INPUT_TIMEOUT: Fault.USER,
    Reason.SESSION_UNAVAILABLE: Fault.USER,
    Reason.CLONE_FAILED: Fault.PLATFORM,
    Reason.IMAGE_UNAVAILABLE: Fault.PLATFORM,
    Reason.SANDBOX_ERROR: Fault.PLATFORM,
    Reason.ARTIFACT_ERROR: Fault.PLATFORM,
    Reason.WORKER_LOST: Fault.PLATFORM,
    Reason.INTERNAL_ERROR: Fault.PLATFORM,
}
"""The usual fault of each reason; a step that knows better says so (a missing branch is the user's)."""

RETRIED_BY_DEFAULT = tuple(reason for reason, fault in FAULT.items() if fault is Fault.PLATFORM)
"""`lifecycle.retry.on` when the manifest names none."""

LOST_HINT = "run it once more with `sandbox task rerun ID`; lifecycle.retry lets the product do that by itself"

SIGNAL_BASE = 128
"""A shell, and the sandbox's init, report death by signal n as exit code 128 + n (POSIX sh, 2.8.2)."""
LAST_SIGNAL = 64


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task or attempt ended (contract §2)."""

    reason: Reason
    message: str
    fault: Fault | None = None
    exit_code: int | None = None
    signal: int | None = None
    hint: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Outcome:
        fault = data.get("fault")
        return cls(**{**data, "reason": Reason(data["reason"]), "fault": Fault(fault) if fault else None})


def failure(reason: Reason, message: str, *, hint: str | None = None, fault: Fault | None = None) -> Outcome:
    """An ending that no exit code explains."""
    return Outcome(reason, message, fault or FAULT[reason], hint=hint)


def of_exit(exit_code: int, *, oom_killed: bool, memory: str = "") -> Outcome:
    """Classify a command that ended by itself.

    `oom_killed` is the kernel's report; it counts only beside an exit code that is not 0, since the
    engine sets it for a killed child too (isolation-and-faults.md §3).
    """
    if exit_code == 0:
        return Outcome(Reason.EXIT_ZERO, "the command ended with exit code 0", exit_code=0)
    signal = exit_code - SIGNAL_BASE if SIGNAL_BASE < exit_code <= SIGNAL_BASE + LAST_SIGNAL else None
    if oom_killed:
        limit = f" of {memory}" if memory else ""
        return Outcome(
            Reason.OOM_KILLED,
            f"the kernel killed a process of the task: it needed more than its memory limit{limit}",
            Fault.USER,
            exit_code,
            signal,
            "raise vm.memory, or make the command need less",
        )
    how = f"exit code {exit_code}" + (f" (signal {signal})" if signal else "")
    hint = "read the end of the log; with lifecycle.failure_action: preserve the sandbox is kept to look inside"
    return Outcome(Reason.EXIT_NONZERO, f"the command ended with {how}", Fault.USER, exit_code, signal, hint)


def stopped(reason: Reason, message: str, exit_code: int | None, *, hint: str | None = None) -> Outcome:
    """An ending that the product caused (timeout, cancel): the exit code is a by-product of the stop."""
    return Outcome(reason, message, FAULT[reason], exit_code, hint=hint)
