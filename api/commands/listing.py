"""`sandbox task list` and `sandbox task status`: look at tasks, once or as they change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import click

from api.commands.conversation import asked, how_to_answer, used_by_agent
from api.commands.frames import cpu, disk, memory, progress_words
from api.commands.options import Command, Session, client_command, words_of
from api.commands.render import Output, plain, short_time, size
from api.commands.watching import watch_many, watch_one
from orchestrator.states import State

Task = dict[str, Any]
COLUMNS = ("id", "state", "created", "worker", "name", "message")
MAX_LIMIT = 1000


def label(text: str) -> tuple[str, str]:
    """Return key and value of `key=value`; raise `BadParameter` for anything else."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise click.BadParameter(f"{text!r} is not key=value: write for example team=platform")
    return key, value


state_option = click.option(
    "--state",
    "-s",
    "states",
    type=words_of("state", State),
    metavar="STATE,...",
    multiple=True,
    help="Only tasks in these states.",
)
label_option = click.option(
    "--label",
    "labels",
    type=label,
    metavar="KEY=VALUE",
    multiple=True,
    help="Only with this label; all must match.",
)


def limit_option(default: int) -> Callable[[Command], Command]:
    """Return what adds `--limit`: how many of a list are shown, `default` unless told."""
    return click.option(
        "--limit",
        type=click.IntRange(1, MAX_LIMIT),
        default=default,
        show_default=True,
        help="At most so many, newest first.",
    )


def states_given(groups: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return what `--state` has named, each state once."""
    return tuple(dict.fromkeys(state for group in groups for state in group))


def labels_given(labels: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return what `--label` has named; raise `UsageError` for a key with two values."""
    if len(dict(labels)) != len(labels):
        raise click.UsageError("--label names the same key twice: no task has two values for one label")
    return dict(labels)


@click.command("list")
@state_option
@label_option
@limit_option(100)
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
    wanted, carried = states_given(states), labels_given(labels)

    def page() -> dict[str, Any]:
        return session.client.list(states=wanted, labels=carried, limit=limit)

    if watch:
        watch_many(session, lambda: page()["tasks"], carried, COLUMNS, row)
        return
    found = page()
    if session.output.is_json:
        session.output.json(found)
        return
    print_page(session.output, found, "tasks", COLUMNS, [row(task) for task in found["tasks"]])


@click.command()
@click.argument("task_id", metavar="ID")
@click.option("--watch", "-w", is_flag=True, help="Go on and show what changes, until the task ends.")
@client_command()
def status(session: Session, task_id: str, watch: bool) -> None:
    """Show what is known about task ID."""
    if watch:
        watch_one(session, task_id, fields)
        return
    task = session.client.get(task_id)
    if session.output.is_json:
        session.output.json(task)
    else:
        session.output.fields(fields(task))


def print_page(
    output: Output, page: Mapping[str, Any], what: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> None:
    """Print a part of a list, and say so if it is not the whole of it."""
    output.rows(columns, rows)
    if page.get("has_more"):
        more = "; --limit shows more" if len(rows) < MAX_LIMIT else ", the most that are shown at once"
        output.note(f"These are {len(rows)} of {page['total_count']} {what}{more}.")


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


def _used(usage: Mapping[str, Any]) -> str | None:
    """What the task's sandboxes have used; None before anybody has looked."""
    seconds, memory_peak, disk_peak = (
        usage.get(name) for name in ("cpu_seconds", "memory_peak_bytes", "disk_peak_bytes")
    )
    parts = [f"{seconds:.1f} s cpu" if seconds is not None else None]
    parts += [f"memory up to {size(memory_peak)}" if memory_peak is not None else None]
    parts += [f"disk up to {size(disk_peak)}" if disk_peak is not None else None]
    return ", ".join(part for part in parts if part) or None


def _pairs(named: Mapping[str, object] | None) -> str | None:
    return ", ".join(f"{plain(key)}={plain(value)}" for key, value in (named or {}).items()) or None


def fields(task: Task, metrics: Mapping[str, Any] = MappingProxyType({})) -> list[tuple[str, object]]:
    """Return what people want to know about one task, in their order; None is left out.

    `metrics`: what its sandbox uses just now.
    """
    outcome = task.get("outcome") or {}
    progress = task.get("progress") or {}
    cancel = task.get("cancel") or {}
    question = task.get("input_required") or {}
    kept = any((one.get("session") or {}).get("resumable") for one in task.get("attempts") or ())
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
        ("progress", progress_words(progress) or None),
        ("cpu", cpu(metrics)),
        ("memory", memory(metrics)),
        ("disk", disk(metrics)),
        ("used", _used(task.get("usage") or {})),
        ("output", size(progress.get("output_bytes")) if progress.get("output_bytes") is not None else None),
        ("tool", progress.get("current_tool")),
        ("tool calls", progress.get("tool_calls") or None),
        ("agent used", used_by_agent(task)),
        ("session", f"kept: `sandbox task resume {task['id']} PROMPT` goes on from it" if kept else None),
        ("outputs", _pairs(task.get("outputs"))),
        ("labels", _pairs(task.get("labels"))),
        ("parent", task.get("parent_id")),
        ("rerun of", task.get("rerun_of")),
        ("resumed from", task.get("resumed_from")),
        ("purged", short_time(task["purged_at"]) if task.get("purged_at") else None),
    ]
