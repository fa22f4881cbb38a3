"""How an attempt ends whose disk was full (pure)."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.outcomes import FAULT, Fault, Outcome, Reason, failure, stopped
from orchestrator.quantities import size_text
from workers.disk_gauge import INODES

_HINT = "raise vm.disk, or write less: workspace and home lie on that disk"


def of_failure(outcome: Outcome, limit_bytes: int, *, full: str | None, broken: bool) -> Outcome:
    """What a command's failure means, if its disk was full, or closed by the kernel."""
    if broken:
        message = "the task's disk could not be written any more: the worker's host disk was full, or failed"
        hint = "free space below SANDBOX_DATA_DIR on that worker, and run the task again"
        return replace(
            outcome, reason=Reason.SANDBOX_ERROR, fault=FAULT[Reason.SANDBOX_ERROR], message=message, hint=hint
        )
    if full is None:
        return outcome
    nothing_left = "no more files could be made on" if full == INODES else "no space was left on"
    message = f"{outcome.message}, and {nothing_left} the task's disk (vm.disk is {size_text(limit_bytes)})"
    return replace(outcome, reason=Reason.DISK_EXCEEDED, fault=Fault.USER, message=message, hint=_HINT)


def of_watch(limit_bytes: int, exit_code: int | None) -> Outcome:
    """The worker ended the task because it had written too much."""
    message = f"the task wrote more than vm.disk ({size_text(limit_bytes)}), or too many files for it, and was stopped"
    return stopped(Reason.DISK_EXCEEDED, message, exit_code, hint=_HINT)


def of_clone(url: str, words: str) -> Outcome:
    """The repository does not fit. `words` are git's."""
    hint = "raise vm.disk, or set repository.depth to fetch less of its history"
    return failure(Reason.DISK_EXCEEDED, f"{url} does not fit onto the task's disk: {words}", hint=hint)
