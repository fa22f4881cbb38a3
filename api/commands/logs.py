"""`sandbox task logs`: read a log, or stay with it."""

from __future__ import annotations

import re

import click

from api.commands.options import Session, client_command, moment
from api.commands.records import LogPrinter


def attempt_number(text: str) -> str:
    """Return the number of an attempt, or `all`; raise `BadParameter` for anything else."""
    if not re.fullmatch(r"all|[1-9][0-9]{0,8}", text):
        raise click.BadParameter(f"{text!r} is no attempt: give its number, or all")
    return text


@click.command()
@click.argument("task_id", metavar="ID")
@click.option("--follow", "-f", is_flag=True, help="Go on until the task ends.")
@click.option("--tail", type=click.IntRange(min=0), help="Begin with the last so many lines; 0 means all.")
@click.option("--stream", type=click.Choice(["all", "stdout", "stderr", "events"]), default="all", show_default=True)
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
    stream: str,
    since: str | None,
    timestamps: bool,
    after: str | None,
    attempt: str | None,
) -> None:
    """Print the log of task ID.

    As text, standard output gets exactly what the task printed; state changes and the product's own lines
    go to standard error, unless --timestamps or --stream events asks for them. A connection that is cut
    resumes: nothing is lost and nothing comes twice.
    """
    if timestamps and session.output.form != "text":
        raise click.UsageError("--timestamps belongs to --format text; the other formats always show the time")
    printer = LogPrinter(session.output, marked=timestamps or stream == "events")
    for record in session.client.logs(
        task_id, follow=follow, tail=tail, stream=stream, since=since, after=after, attempt=attempt
    ):
        printer(record)
    printer.finish()
