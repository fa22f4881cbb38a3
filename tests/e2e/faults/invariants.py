"""I1–I8 (isolation-and-faults.md §7) as functions from evidence to what is wrong with it. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import pairwise

from orchestrator.states import TERMINAL, TRANSITIONS, State
from tests.e2e.faults.evidence import Evidence, TaskSeen
from tests.e2e.faults.scripts import COUNT_LINE, FIRST_LINE, TICK
from tests.e2e.submitting import Json

_MOVES = {(start, end) for (start, _), end in TRANSITIONS.items()}
_GAP = None
_ENTRY = re.compile(r"^(?=\[?\d{4}-\d\d-\d\d[T ]|\{\"at\")", re.MULTILINE)
"""Where an entry of a log begins: ours, the web server's, the keeper's."""
_TRACEBACK = "Traceback (most recent call last)"
_KEEPER_FAULT = '"event": "fault"'
ROLE_TASK = "task"


def violations(evidence: Evidence, *, allowed: Sequence[str] = ()) -> list[str]:
    """Everything that is wrong; `allowed` are patterns of tracebacks (with the line before) that a test names."""
    found = [text for check in _CHECKS for text in check(evidence)]
    return found + list(no_unhandled_error(evidence, allowed))


def accepted_is_terminal(evidence: Evidence) -> Iterator[str]:
    """I1: each accepted id exists and, after quiescence, is terminal."""
    for task in evidence.tasks:
        if task.view is None:
            yield f"I1 task {task.task_id} was accepted and is not known"
        elif task.view["state"] not in TERMINAL:
            yield f"I1 task {task.task_id} rests in {task.view['state']}: {task.view['state_message']}"


def history_is_a_path(evidence: Evidence) -> Iterator[str]:
    """I2: the history is a path of the state machine with one terminal state, its sequence gapless."""
    for task in _known(evidence):
        who = f"I2 task {task.task_id}"
        numbers = [one["seq"] for one in task.records]
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"{who}: the sequence is not gapless: {_first_break(numbers)}"
        changes = [one for one in task.records if one.get("type") == "state_change"]
        states = [one["new_state"] for one in changes]
        if not states or (changes[0]["previous_state"], states[0]) != (None, State.PENDING):
            yield f"{who}: its history does not begin with its acceptance: {states[:1]}"
        for before, change in pairwise(changes):
            move = (before["new_state"], change["new_state"])
            if change["previous_state"] != before["new_state"] or (State(move[0]), State(move[1])) not in _MOVES:
                yield f"{who}: {move[0]} → {move[1]} (told as from {change['previous_state']}) is no transition"
        ends = [state for state in states if state in TERMINAL]
        if len(ends) > 1 or (ends and ends[0] != states[-1]):
            yield f"{who}: it ended more than once, or went on afterwards: {states}"
        if task.view and states and states[-1] != task.view["state"]:
            yield f"{who}: it is {task.view['state']}, its journal ends with {states[-1]}"


def never_two_at_once(evidence: Evidence) -> Iterator[str]:
    """I3: the intervals between start and die of a task's containers do not overlap."""
    for task in evidence.tasks:
        own = [life for life in evidence.lives if life.task_id == task.task_id]
        for before, after in pairwise(own):
            if before.ended_ns is None or before.ended_ns > after.started_ns:
                yield (
                    f"I3 task {task.task_id}: the container of attempt {after.attempt} on {after.worker} started while "
                    f"that of attempt {before.attempt} on {before.worker} lived"
                )


def no_more_runs_than_attempts(evidence: Evidence) -> Iterator[str]:
    """I4: no more starts than attempts, at most one an attempt, and those that ran had one."""
    for task in _known(evidence):
        attempts = {one["attempt"]: one for one in (task.view or {})["attempts"]}
        starts = Counter(
            life.attempt for life in evidence.lives if life.task_id == task.task_id and life.role == ROLE_TASK
        )
        for number, count in starts.items():
            if number not in attempts:
                yield f"I4 task {task.task_id}: a container of attempt {number} started, which the store does not know"
            if count > 1:
                yield f"I4 task {task.task_id}: attempt {number} was started {count} times"
        for number, attempt in attempts.items():
            if attempt["started_at"] and not starts[number]:
                yield f"I4 task {task.task_id}: attempt {number} is said to have run, and no container started"


def ends_are_facts(evidence: Evidence) -> Iterator[str]:
    """I4: the exit code is the engine's; nothing starts after the end; cancelled means that nothing lives."""
    for task in _known(evidence):
        view = task.view or {}
        own = [life for life in evidence.lives if life.task_id == task.task_id and life.role == ROLE_TASK]
        last = [life for life in own if life.attempt == view["attempt"]]
        outcome = view["outcome"] or {}
        if outcome.get("reason") in ("exit_zero", "exit_nonzero") and last:
            seen = last[-1].exit_code
            if seen is not None and seen != outcome["exit_code"]:
                yield f"I4 task {task.task_id}: exit code {outcome['exit_code']}, the engine saw {seen}"
        if not evidence.clocks_agree or not view["finished_at"]:
            continue
        finished_ns = _nanoseconds(view["finished_at"])
        if any(life.started_ns > finished_ns for life in own):
            yield f"I4 task {task.task_id}: a container started after it was {view['state']}"
        if view["state"] == State.CANCELLED and any((life.ended_ns or 1 << 63) > finished_ns for life in own):
            yield f"I4 task {task.task_id}: its container lived on after it was cancelled"


def lines_arrive_once(evidence: Evidence) -> Iterator[str]:
    """I5: numbered lines arrive once, in order, missing only inside a gap; each run prints its first line once."""
    for task in _known(evidence):
        runs: list[str] = []
        for attempt in (task.view or {})["attempts"]:
            who = f"I5 task {task.task_id} attempt {attempt['attempt']}"
            said = list(_said(task.by_attempt[attempt["attempt"]]))
            runs += [one for one in said if one and one.startswith(FIRST_LINE)]
            yield from _numbered(who, said, whole=(attempt["outcome"] or {}).get("reason") == "exit_zero")
        repeated = [line for line, count in Counter(runs).items() if count > 1]
        if repeated:
            yield f"I5 task {task.task_id}: the same run is told twice: {repeated}"
        if len(runs) > len((task.view or {})["attempts"]):
            yield f"I5 task {task.task_id}: {len(runs)} runs printed their first line: {runs}"


def _said(records: Iterable[Json]) -> Iterator[str | None]:
    """Whole lines of stdout, and None where the log says that something is missing."""
    begun = ""
    for one in records:
        if one["stream"] == "gap":
            begun = ""
            yield _GAP
        elif one["stream"] == "stdout":
            begun += one["data"]
            if begun.endswith("\n"):
                yield begun[:-1]
                begun = ""


def _numbered(who: str, said: Sequence[str | None], *, whole: bool) -> Iterator[str]:
    expected, in_gap, count = 1, False, None
    for line in said:
        if line is _GAP:
            in_gap = True
        elif line.startswith(COUNT_LINE):
            count = int(line.removeprefix(COUNT_LINE))
        elif line.startswith(TICK):
            number = int(line.removeprefix(TICK))
            if number < expected:
                yield f"{who}: line {number} came again, {expected} was due"
            elif number > expected and not in_gap:
                yield f"{who}: lines {expected} to {number - 1} are missing"
            expected, in_gap = max(expected, number + 1), False
    if whole and count is not None and expected <= count and not in_gap:
        yield f"{who}: it succeeded, and lines {expected} to {count} are missing at the end"


def nothing_is_left(evidence: Evidence) -> Iterator[str]:
    """I6: no container, network, volume, mount, loop device, directory, file or process without a live attempt."""
    yield from (f"I6 {what}" for what in evidence.leftovers)


def artifacts_are_stored(evidence: Evidence) -> Iterator[str]:
    """I7: what is listed can be had, with the right checksum, and is listed once."""
    for task in _known(evidence):
        for path, count in Counter(one.path for one in task.artifacts).items():
            if count > 1:
                yield f"I7 task {task.task_id}: artifact {path} is listed {count} times"
        for one in task.artifacts:
            right = one.checksum == f"sha256:{one.received_sha256}" and one.header_sha256 == one.received_sha256
            if not right or one.received_bytes != one.size_bytes:
                yield f"I7 task {task.task_id}: artifact {one.path} is not what is listed: {one}"


def no_unhandled_error(evidence: Evidence, allowed: Sequence[str]) -> Iterator[str]:
    """I8: no traceback in any log, but those a test names; the keeper writes a fault in one line."""
    for name, text in evidence.logs.items():
        for entry in _ENTRY.split(text):
            if _TRACEBACK not in entry and _KEEPER_FAULT not in entry:
                continue
            if not any(re.search(pattern, entry) for pattern in allowed):
                yield f"I8 {name}: {entry.strip()}"


def _known(evidence: Evidence) -> Iterator[TaskSeen]:
    return (task for task in evidence.tasks if task.view is not None)


def _first_break(numbers: Sequence[int]) -> str:
    for expected, number in enumerate(numbers, start=1):
        if number != expected:
            return f"{number} where {expected} was due"
    return "empty"


def _nanoseconds(text: str) -> int:
    at = datetime.fromisoformat(text)
    return int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1_000


_CHECKS: tuple[Callable[[Evidence], Iterator[str]], ...] = (
    accepted_is_terminal,
    history_is_a_path,
    never_two_at_once,
    no_more_runs_than_attempts,
    ends_are_facts,
    lines_arrive_once,
    nothing_is_left,
    artifacts_are_stored,
)
