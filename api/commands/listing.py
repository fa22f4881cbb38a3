"""`sandbox task list` and `sandbox task status`: look at tasks, once or as they change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from api.commands.conversation import asked, how_to_answer, used_by_agent
from api.commands.options import Session, client_command
from api.commands.render import plain, short_time, size
from api.commands.watching import watch_many, watch_one
from orchestrator.states import TERMINAL, State

Task = dict[str, Any]
COLUMNS = ("id", "state", "created", "worker", "name", "message")
MAX_LIMIT = 1000


def states_in(text: str) -> tuple[str, ...]:
    """Return the states in a comma list; raise `BadParameter` for one that does not exist."""
    states = tuple(part.strip() for part in text.split(","))
    unknown = [state for state in states if state not in list(State)]
    if unknown:
        raise click.BadParameter(f"there is no state {', '.join(unknown)}: use {', '.join(State)}")
    return states


def label(text: str) -> tuple[str, str]:
    """Return key and value of `key=value`; raise `BadParameter` for anything else."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise click.BadParameter(f"{text!r} is not key=value: write for example team=platform")
    return key, value


@click.command("list")
@click.option(
    "--state",
    "-s",
    "states",
    type=states_in,
    metavar="STATE,...",
    multiple=True,
    help="Only tasks in these states.",
)
@click.option(
    "--label",
    "labels",
    type=label,
    metavar="KEY=VALUE",
    multiple=True,
    help="Only with this label; all must match.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_LIMIT),
    default=100,
    show_default=True,
    help="At most so many, newest first.",
)
@click.option("--watch", is_flag=True, help="Go on and show what changes, until Ctrl-C.")
@client_command(short_server=False, listing=True)
def list_tasks(
    session: Session,
    *,
    states: Sequence[tuple[str, ...]],
    labels: Sequence[tuple[str, str]],
    limit: int,
    watch: bool,
) -> None:
    """List tasks, the newest first."""
    if len(dict(labels)) != len(labels):
        raise click.UsageError("--label names the same key twice: no task has two values for one label")
    wanted = tuple(dict.fromkeys(state for group in states for state in group))

    def page() -> dict[str, Any]:
        return session.client.list(states=wanted, labels=dict(labels), limit=limit)

    if watch:
        watch_many(session, lambda: page()["tasks"], COLUMNS, row)
        return
    found = page()
    if session.output.is_json:
        session.output.json(found)
        return
    session.output.rows(COLUMNS, [row(task) for task in found["tasks"]])
    if found.get("has_more"):
        session.output.note(f"These are {len(found['tasks'])} of {found['total_count']} tasks; --limit shows more.")


@click.command()
@click.argument("task_id", metavar="ID")
@click.option("--watch", "-w", is_flag=True, help="Go on and show what changes, until the task ends.")
@client_command()
def status(session: Session, task_id: str, watch: bool) -> None:
    """Show what is known about task ID."""
    if watch:
        watch_one(session, _reader(session, task_id), fields, lambda task: task["state"] in TERMINAL)
        return
    task = session.client.get(task_id)
    if session.output.is_json:
        session.output.json(task)
    else:
        session.output.fields(fields(task))


def _reader(session: Session, task_id: str) -> Callable[[], Task]:
    return lambda: session.client.get(task_id)


def row(task: Task) -> tuple[object, ...]:
    """Return one line of the list."""
    question = task.get("input_required")
    return (
        task["id"],
        task["state"],
        short_time(task.get("created_at")),
        task.get("worker"),
        task.get("name"),
        f"asks: {asked(question)}" if question else task.get("state_message") or "",
    )


def _attempt(one: dict[str, Any]) -> str:
    reason = (one.get("outcome") or {}).get("reason")
    why = f" ({plain(reason)})" if reason else ""
    return f"{plain(one.get('attempt'))}: {plain(one.get('state'))}{why}"


def fields(task: Task) -> list[tuple[str, object]]:
    """Return what people want to know about one task, in their order; None is left out."""
    outcome = task.get("outcome") or {}
    progress = task.get("progress") or {}
    cancel = task.get("cancel") or {}
    question = task.get("input_required") or {}
    kept = any((one.get("session") or {}).get("resumable") for one in task.get("attempts") or ())
    labels = ", ".join(f"{plain(key)}={plain(value)}" for key, value in (task.get("labels") or {}).items())
    ran = [_attempt(one) for one in task.get("attempts") or ()]
    return [
        ("id", task["id"]),
        ("name", task.get("name")),
        ("state", task["state"]),
        ("message", task.get("state_message")),
        ("asks", asked(question) if question else None),
        ("options", ", ".join(question.get("options") or ()) or None),
        ("to answer", how_to_answer(task["id"], question) if question else None),
        ("reason", outcome.get("reason")),
        ("outcome", outcome.get("message")),
        ("hint", outcome.get("hint")),
        ("exit code", task.get("exit_code")),
        ("cancelling", cancel.get("phase")),
        ("worker", task.get("worker")),
        ("attempt", task.get("attempt")),
        ("attempts", ", ".join(ran) or None),
        ("created", short_time(task.get("created_at"))),
        ("started", short_time(task["started_at"]) if task.get("started_at") else None),
        ("finished", short_time(task["finished_at"]) if task.get("finished_at") else None),
        ("output", size(progress.get("output_bytes")) if progress.get("output_bytes") is not None else None),
        ("tool", progress.get("current_tool")),
        ("tool calls", progress.get("tool_calls") or None),
        ("agent used", used_by_agent(task)),
        ("session", f"kept: `sandbox task resume {task['id']} PROMPT` goes on from it" if kept else None),
        ("labels", labels or None),
        ("parent", task.get("parent_id")),
        ("rerun of", task.get("rerun_of")),
        ("resumed from", task.get("resumed_from")),
        ("purged", short_time(task["purged_at"]) if task.get("purged_at") else None),
    ]
