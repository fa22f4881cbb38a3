"""`--wait` and `--follow`: stay until the task has ended, say what happens, end with its exit code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import click

from api.client import LogRecord
from api.commands.conversation import STREAMS as CONVERSATION
from api.commands.conversation import ConversationPrinter, how_to_answer, is_agents, used_by_agent
from api.commands.options import Command, Session, duration
from api.commands.phase_line import phase_line
from api.commands.records import LogPrinter, describe
from api.commands.render import short_time
from api.conversation import lines
from orchestrator.cli import EXIT_INTERRUPTED, CommandFailed
from orchestrator.states import State

LAST_LINES = 20
"""How much of the log of a failed task `--wait` shows."""
EXIT_TASK_FAILED = 1
EXIT_TASK_CANCELLED = 6
_EXIT_CODES: Mapping[str, int] = {State.COMPLETED: 0, State.CANCELLED: EXIT_TASK_CANCELLED}


@dataclass(frozen=True, slots=True)
class Patience:
    """What the options say about waiting."""

    wait: bool
    follow: bool
    timeout_seconds: int | None

    def __post_init__(self) -> None:
        if self.timeout_seconds is not None and not self.waits:
            raise click.UsageError("--timeout limits waiting: give it together with --wait or --follow")

    @property
    def waits(self) -> bool:
        return self.wait or self.follow


def waiting_options(function: Command) -> Command:
    """Add `--wait`, `--follow` and `--timeout`; the command receives `wait`, `follow`, `timeout`."""
    for option in (
        click.option(
            "--timeout",
            type=duration,
            metavar="DURATION",
            help="Wait no longer than this; then exit code 124.",
        ),
        click.option("--follow", is_flag=True, help="Print the task's log as it comes, until the task ends."),
        click.option("--wait", "-w", is_flag=True, help="Wait until the task ends; print its states."),
    ):
        function = option(function)
    return function


def stay(session: Session, accepted: dict[str, Any], patience: Patience) -> int:
    """Wait for the end of a task that was just accepted; print, and return the exit code.

    Raises `CommandFailed` (130) on Ctrl-C and `WaitTimedOut` (124): the task goes on in both cases.
    """
    task_id = str(accepted["task_id"])
    if session.output.is_json and patience.follow:
        session.output.json_line(accepted)
    try:
        task = _ended(session, accepted, patience)
    except KeyboardInterrupt:
        raise CommandFailed(
            f"interrupted; task {task_id} goes on. Look at it with `sandbox task status {task_id}`, "
            f"stop it with `sandbox task cancel {task_id}`.",
            EXIT_INTERRUPTED,
        ) from None
    _report(session, task, patience)
    return exit_code([task["state"]])


def exit_code(states: Iterable[str]) -> int:
    """What a command ends with that has waited for tasks which ended so: 1 when one failed, else 6 when one was
    cancelled, else 0."""
    codes = {_EXIT_CODES.get(state, EXIT_TASK_FAILED) for state in states}
    return next((code for code in (EXIT_TASK_FAILED, EXIT_TASK_CANCELLED) if code in codes), 0)


def _ended(session: Session, accepted: dict[str, Any], patience: Patience) -> dict[str, Any]:
    """Print what is to be seen of the task until it has ended; return it then."""
    task_id = str(accepted["task_id"])
    wait = partial(session.client.wait_for_end, task_id, timeout_seconds=patience.timeout_seconds)
    on_record, stream = _shown(session, task_id, patience)
    if isinstance(on_record, _PhasePrinter):
        return wait(stream=stream, on_record=on_record)
    try:
        with phase_line(session, task_id, str(accepted["state"])) as beneath:
            return wait(stream=stream, on_record=beneath(on_record))
    finally:
        on_record.finish()


def _shown(
    session: Session, task_id: str, patience: Patience
) -> tuple[LogPrinter | ConversationPrinter | _PhasePrinter, str]:
    """What prints the log, and the streams that it wants."""
    if not patience.follow:
        return _PhasePrinter(session, task_id), "events"
    if session.output.form == "text" and is_agents(task := session.client.get(task_id)):
        resumed = task.get("resumed_from") is not None
        return ConversationPrinter(session.output, task_id, live=True, is_resumed=resumed), CONVERSATION
    return LogPrinter(session.output), "all"


_WORTH_A_LINE = frozenset({"state_change", "input_required", "input_withdrawn"})


@dataclass(frozen=True, slots=True)
class _PhasePrinter:
    """Prints the state changes and what somebody has to answer, and nothing else that is an event."""

    session: Session
    task_id: str

    def __call__(self, record: LogRecord) -> None:
        kind = record.body.get("type")
        if kind not in _WORTH_A_LINE:
            return
        output = self.session.output
        say = output.note if output.is_json else output.line
        say(f"{short_time(record.body.get('timestamp'))}  {describe(record)}")
        if kind == "input_required":
            output.note(how_to_answer(self.task_id, record.body))


def _report(session: Session, task: dict[str, Any], patience: Patience) -> None:
    output = session.output
    if output.is_json:
        (output.json_line if patience.follow else output.json)(task)
    state, code = task["state"], task.get("exit_code")
    if not output.is_json or state != State.COMPLETED:
        text = f"Task {task['task_id']} {state}" + (f" (exit code {code})" if code is not None else "")
        (output.note if output.is_json or patience.follow else output.line)(text)
    if used := used_by_agent(task):
        output.note(f"The agent used {used}")
    if state != State.COMPLETED:
        _explain(session, task, log_was_shown=patience.follow)


def _explain(session: Session, task: dict[str, Any], *, log_was_shown: bool) -> None:
    """Say on stderr why the task did not complete: the log's end, the outcome, what to do."""
    if not log_was_shown:
        last = _last_lines(session, task)
        if last:
            session.output.note("The end of its log:")
        for line in last:
            session.output.note(f"  {line}")
    session.output.why(task)


def _last_lines(session: Session, task: dict[str, Any]) -> list[str]:
    """The end of the log as text: what was printed, and of an agent what it said."""
    stream = CONVERSATION if is_agents(task) else "all"
    records = session.client.logs(task["task_id"], tail=LAST_LINES, stream=stream)
    return [
        line for record in records for line in ([record.data.rstrip()] if record.data else lines(record.body) or [])
    ]
