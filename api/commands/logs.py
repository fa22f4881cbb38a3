"""`sandbox task logs`: read a log, or stay with it; an agent's as a conversation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial

import click

from api.client import ClientError, LogRecord
from api.commands.conversation import STREAMS as CONVERSATION
from api.commands.conversation import ConversationPrinter, is_agents, last_of
from api.commands.options import Session, client_command, moment
from api.commands.records import LogPrinter
from orchestrator.states import TERMINAL, State

STREAMS = ("stdout", "stderr", "events", "system")


def attempt_number(text: str) -> str:
    """Return the number of an attempt, or `all`; raise `BadParameter` for anything else."""
    if not re.fullmatch(r"all|[1-9][0-9]{0,8}", text):
        raise click.BadParameter(f"{text!r} is no attempt: give its number, or all")
    return text


def streams(text: str) -> str:
    """Return a comma list of streams; raise `BadParameter` for a word that is none."""
    named = text.split(",")
    if named != ["all"] and (unknown := [one for one in named if one not in STREAMS]):
        raise click.BadParameter(f"{unknown[0]!r} is no stream: use some of {', '.join(STREAMS)}, or all")
    return text


@click.command()
@click.argument("task_id", metavar="ID")
@click.option("--follow", "-f", is_flag=True, help="Go on until the task ends.")
@click.option(
    "--tail",
    type=click.IntRange(min=0),
    help="Begin with the last so many lines, of an agent with so many records of its conversation; 0 means all.",
)
@click.option(
    "--stream",
    type=streams,
    metavar="STREAM,...",
    help="Only these: stdout, stderr, events, system; or all, which is the default where no agent runs.",
)
@click.option("--raw", is_flag=True, help="Of an agent: what it printed itself, line by line JSON; --stream stdout.")
@click.option(
    "--since",
    type=moment,
    metavar="TIME",
    help="Only what came since this time (RFC 3339), or since 10m ago.",
)
@click.option("--timestamps", is_flag=True, help="Put time and stream in front of every line.")
@click.option("--after", metavar="CURSOR", help="Only what is behind this cursor (--format json shows them).")
@click.option(
    "--attempt",
    type=attempt_number,
    metavar="N|all",
    help="The log of this attempt; the default is the latest.",
)
@client_command()
def logs(
    session: Session,
    *,
    task_id: str,
    follow: bool,
    tail: int | None,
    stream: str | None,
    raw: bool,
    since: str | None,
    timestamps: bool,
    after: str | None,
    attempt: str | None,
) -> None:
    """Print the log of task ID.

    As text, standard output gets exactly what the task printed; state changes and the product's own lines
    go to standard error, unless --timestamps or --stream events asks for them. The log of a coding agent is shown as a
    conversation: what it says, a line for each tool it uses, what it asks and is sent; --raw and --stream show the
    rest. A connection that is cut resumes: nothing is lost and nothing comes twice. With --follow, as text, standard
    error tells at the end why a task did not complete, unless --stream, --raw or --attempt ask for a part.
    """
    if timestamps and session.output.form != "text":
        raise click.UsageError("--timestamps belongs to --format text; the other formats always show the time")
    if raw and stream is not None:
        raise click.UsageError("--raw is --stream stdout: give one of them")
    stream = "stdout" if raw else stream
    tells_why = follow and stream is None and attempt is None and session.output.form == "text"
    printer: LogPrinter | ConversationPrinter | None = None
    if stream is None and session.output.form == "text":
        printer = _conversation(session, task_id, follow=follow, marked=timestamps)
        stream = CONVERSATION if printer else None
    printer = printer or LogPrinter(session.output, marked=timestamps or stream == "events")
    read = partial(session.client.logs, task_id, stream=stream or "all", since=since, attempt=attempt)
    if isinstance(printer, ConversationPrinter) and tail:
        found = _end_of_conversation(read, tail, after, follow=follow)
    else:
        found = read(follow=follow, tail=tail, after=after)
    for record in found:
        printer(record)
    printer.finish()
    if tells_why:
        _tell_why(session, task_id)


def _tell_why(session: Session, task_id: str) -> None:
    """Say why a task did not complete; its log is whole without it, so a server that went away is no fault here."""
    try:
        task = session.client.get(task_id)
    except ClientError:
        return
    if task["state"] in TERMINAL and task["state"] != State.COMPLETED:
        session.output.why(task)


def _conversation(session: Session, task_id: str, *, follow: bool, marked: bool) -> ConversationPrinter | None:
    """What shows the log of an agent; None for a task without one."""
    task = session.client.get(task_id)
    if not is_agents(task):
        return None
    question = task.get("input_required") or {}
    live = follow and task["state"] not in TERMINAL
    resumed = task.get("resumed_from") is not None
    return ConversationPrinter(session.output, task_id, live, question.get("id"), marked, is_resumed=resumed)


def _end_of_conversation(
    read: Callable[..., Iterator[LogRecord]], tail: int, after: str | None, *, follow: bool
) -> Iterator[LogRecord]:
    """The last `tail` records of a conversation with what lies between and behind them; then what comes."""
    past = last_of(lambda count: read(follow=False, tail=count, after=after), tail)
    if not follow:
        yield from past
        return
    known = [record for record in past if record.kind != "end"]
    yield from known
    yield from read(follow=True, after=known[-1].cursor if known else after)
