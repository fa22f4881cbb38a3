"""`sandbox task cancel` and `sandbox task purge`: stop tasks, and remove what they left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from api.client import CANCEL_WAIT_SECONDS, ServerRefused
from api.commands.options import Session, ask, client_command, yes_option
from orchestrator.states import State


@click.command()
@click.argument("task_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--reason", help="Why, in your words; kept with the task.")
@click.option("--force", is_flag=True, help="Kill at once, without TERM and time to stop.")
@click.option("--children", is_flag=True, help="Cancel the tasks whose parent this is, too.")
@click.option(
    "--wait",
    type=click.IntRange(0, 300),
    default=CANCEL_WAIT_SECONDS,
    show_default=True,
    help="Seconds to wait for the confirmation that the sandbox is gone.",
)
@yes_option
@client_command()
@click.pass_context
def cancel(
    ctx: click.Context,
    session: Session,
    *,
    task_ids: Sequence[str],
    reason: str | None,
    force: bool,
    children: bool,
    wait: int,
    yes: bool,
) -> None:
    """Cancel the tasks ID...; on a terminal, several only after a question.

    A task is reported as cancelled only when its sandbox is gone. All tasks are tried; the exit code is that
    of the first one that was refused.
    """
    ids = list(dict.fromkeys(task_ids))
    if len(ids) > 1:
        ask(f"Cancel {len(ids)} tasks?", yes=yes)
    answers, first_failure = [], 0
    for task_id in ids:
        try:
            answer = session.client.cancel(task_id, reason=reason, force=force, wait=wait, children=children)
        except ServerRefused as error:
            first_failure = first_failure or error.exit_code
            answer = {"success": False, "task_id": task_id, "error": error.error, "message": error.message}
            click.echo(f"Error: {error}", err=True)
        else:
            _say(session, task_id, answer)
        answers.append(answer)
    if session.output.is_json:
        session.output.json(answers)
    ctx.exit(first_failure)


@click.command()
@click.argument("task_id", metavar="ID")
@yes_option
@client_command()
def purge(session: Session, task_id: str, yes: bool) -> None:
    """Remove the log, the artifacts and the preserved sandbox of task ID, which has ended.

    There is no way back, so on a terminal the command asks first. The task itself stays listed.
    """
    ask(f"Remove the log, the artifacts and any preserved sandbox of task {task_id} for good?", yes=yes)
    session.client.purge(task_id)
    if session.output.is_json:
        session.output.json({"task_id": task_id, "purged": True})
    else:
        session.output.line(f"{task_id} purged")


def _say(session: Session, task_id: str, answer: dict[str, Any]) -> None:
    if session.output.is_json:
        return
    if answer.get("new_state") == State.CANCELLED:
        session.output.line(f"{task_id} cancelled (was {answer.get('previous_state')})")
        return
    phase = (answer.get("cancel") or {}).get("phase", "requested")
    session.output.line(
        f"{task_id} is still {answer.get('new_state')}, cancellation {phase}: it goes on by itself; "
        f"`sandbox task status {task_id} --watch` shows the end"
    )
