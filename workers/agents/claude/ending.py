"""What the end of the agent means (pure): its exit code says little, the last result of its stream the rest.

A result's `subtype` alone may say success where `is_error` tells of a failure; a signal leaves no result at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orchestrator import outcomes
from orchestrator.outcomes import Fault, Outcome, Reason

# The relay's refusal, as the agent repeats it: the API has no status of its own for this.
_RELAY_BUDGET = re.compile(r"API Error: 400 budget ")
# The agent tells this failure in no other way.
_NO_SESSION = "No conversation found with session ID"
_SHOWN_CHARACTERS = 600
_REQUEST_FAULTS = (400, 404, 413)


def outcome(exit_code: int, *, oom_killed: bool, memory: str, seen: Mapping[str, Any] | None) -> Outcome:
    """`seen` is `asdict(ClaudeSeen)`."""
    known = seen or {}
    result = known.get("result")
    if result is None:
        return _without_result(exit_code, oom_killed=oom_killed, memory=memory, has_begun=bool(known.get("session_id")))
    if result["is_error"] and exit_code <= outcomes.SIGNAL_BASE:
        return _of_error(result, exit_code, known)
    if exit_code != 0:
        return outcomes.of_exit(exit_code, oom_killed=oom_killed, memory=memory)
    return Outcome(Reason.EXIT_ZERO, f"the agent finished{_counted(known)}{_problems(known)}", exit_code=0)


def _without_result(exit_code: int, *, oom_killed: bool, memory: str, has_begun: bool) -> Outcome:
    if (oom_killed and exit_code != 0) or exit_code > outcomes.SIGNAL_BASE:
        return outcomes.of_exit(exit_code, oom_killed=oom_killed, memory=memory)
    when = "without a result" if has_begun else "before it began to work"
    return Outcome(
        Reason.AGENT_ERROR,
        f"the agent ended with exit code {exit_code} {when}: its own words are on its standard error",
        outcomes.FAULT[Reason.AGENT_ERROR],
        exit_code,
        hint="read them with `sandbox task logs ID --stream stderr`",
    )


def _of_error(result: Mapping[str, Any], exit_code: int, known: Mapping[str, Any]) -> Outcome:
    text = str(result["text"]).strip()[:_SHOWN_CHARACTERS] or "it does not say why"
    if result["subtype"] == "error_max_turns":
        return _failed(
            Reason.AGENT_MAX_TURNS,
            f"the agent was stopped by claude.max_turns{_counted(known)}",
            exit_code,
            "raise claude.max_turns, or ask for less",
        )
    if result["subtype"] == "error_max_budget_usd" or _RELAY_BUDGET.match(text):
        return _failed(
            Reason.AGENT_BUDGET,
            f"the agent was stopped by claude.max_budget_usd{_counted(known)}{_spent(known)}: {text}",
            exit_code,
            "raise claude.max_budget_usd, ask for less, or choose a cheaper claude.model",
        )
    if _NO_SESSION in text:
        return _failed(
            Reason.SESSION_UNAVAILABLE,
            f"the agent cannot go on from the earlier task's session: {text}",
            exit_code,
            "submit the task anew, without going on from another",
        )
    if result["reason"] == "api_error" or result["status"] is not None:
        return _api_error(result["status"], text, exit_code)
    return _failed(
        Reason.AGENT_ERROR,
        f"the agent gave up ({result['reason'] or 'no reason given'}): {text}{_problems(known)}",
        exit_code,
        "read the conversation with `sandbox task logs ID`",
    )


def _api_error(status: int | None, text: str, exit_code: int) -> Outcome:
    """Whose fault: what was asked for is the user's; the way to the API, its key and its state are not."""
    what = f"status {status}" if status is not None else "it could not be reached"
    message = f"the model API failed ({what}): {text}"
    if status in (401, 403):
        hint = "ask the operator to look at the key of the model API: `sandbox doctor` on the worker's host tries it"
        return _failed(Reason.AGENT_ERROR, message, exit_code, hint, Fault.PLATFORM)
    if status == 404:
        hint = "correct claude.model, or ask the operator which models there are"
        return _failed(Reason.AGENT_ERROR, message, exit_code, hint, Fault.USER)
    if status in _REQUEST_FAULTS:
        hint = "correct what the message names; a task that has grown too large is better split"
        return _failed(Reason.AGENT_ERROR, message, exit_code, hint, Fault.USER)
    hint = "run the task once more later; with agent_error in lifecycle.retry.on the product does that by itself"
    return _failed(Reason.AGENT_ERROR, message, exit_code, hint, Fault.PLATFORM)


def _failed(reason: Reason, message: str, exit_code: int, hint: str, fault: Fault | None = None) -> Outcome:
    return Outcome(reason, message, fault or outcomes.FAULT[reason], exit_code, hint=hint)


def _counted(known: Mapping[str, Any]) -> str:
    turns = known.get("turns", 0)
    return f" after {turns} turn{'s' if turns != 1 else ''}"


def _spent(known: Mapping[str, Any]) -> str:
    """By the agent's own count, which is of the whole session: that of a task which this one goes on from, too."""
    cost_usd = known.get("cost_usd")
    return f" and {cost_usd:.4f} USD in this session" if cost_usd is not None else ""


def _problems(known: Mapping[str, Any]) -> str:
    return "".join(f"; {problem}" for problem in known.get("problems", ())[:3])
