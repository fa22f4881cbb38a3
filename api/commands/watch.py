"""`sandbox task watch`: what all tasks do, or some of them, as it happens."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import click

from api.commands.frame_printer import FramePrinter
from api.commands.frames import TYPES
from api.commands.listing import label_option, labels_given, state_option, states_given
from api.commands.live_picture import DRAWS_PER_SECOND, can_be_drawn, live_picture
from api.commands.options import Session, client_command
from api.commands.task_board import Board
from api.commands.watched_tasks import WatchedTasks
from orchestrator import clock

DRAWN = ("state_change", "output", "progress", "metrics", "error")
"""The frames from which the picture is made."""
NEWS = ("state_change", "error", "artifact")
"""What is worth a line."""


def types_in(text: str) -> tuple[str, ...]:
    """Return the types in a comma list; raise `BadParameter` for one that does not exist."""
    named = tuple(part.strip() for part in text.split(","))
    if unknown := [one for one in named if one not in TYPES]:
        raise click.BadParameter(f"{unknown[0]!r} is no type of frame: use some of {', '.join(TYPES)}")
    return named


@click.command()
@click.argument("task_ids", metavar="[ID]...", nargs=-1)
@state_option
@label_option
@click.option(
    "--filter",
    "kinds",
    type=types_in,
    metavar="TYPE,...",
    help=f"Print frames of these types, a line each: {', '.join(TYPES)}.",
)
@click.option("--output", "with_output", is_flag=True, help="Print what the tasks print, too, line by line.")
@client_command(short_server=False)
@click.pass_context
def watch(
    ctx: click.Context,
    session: Session,
    *,
    task_ids: Sequence[str],
    states: Sequence[tuple[str, ...]],
    labels: Sequence[tuple[str, str]],
    kinds: tuple[str, ...] | None,
    with_output: bool,
) -> None:
    """Show what all tasks do, or those named, as it happens.

    On a terminal this is a picture that is drawn again as it changes; in a pipe, or with --filter or --output, a line
    for each change of a state, each artifact and each error. --format json prints the frames of the event stream, one
    a line.

    With IDs it ends when all of them have ended, and the exit code tells how: 0 all completed, 1 one failed, 6 one was
    cancelled and none failed. Without, it goes on until Ctrl-C.
    """
    if task_ids and (states or labels):
        raise click.UsageError("an ID already says which task is meant: leave out --state and --label, or the IDs")
    watched = WatchedTasks(session.client, tuple(dict.fromkeys(task_ids)), labels_given(labels), states_given(states))
    if can_be_drawn(session.output) and kinds is None and not with_output:
        _draw(session, watched)
    else:
        by_default = tuple(one for one in TYPES if one != "output") if session.output.is_json else NEWS
        _print(session, watched, {*(kinds or by_default), *(("output",) if with_output else ())})
    ctx.exit(watched.exit_code)


def _draw(session: Session, watched: WatchedTasks) -> None:
    board = Board(watched.states, stays=bool(watched.ids))
    known = watched.known or watched.active()
    with live_picture(session.output, lambda width, height: board.picture(width, height, clock.now())):
        # A task that leaves the states asked for must leave the picture: of it, too, all state changes are needed.
        for event in watched.frames(DRAWN, rate_limit_ms=1000 // DRAWS_PER_SECOND):
            board.take(event, clock.now())
            if event.is_preexisting and event.task_id in known:
                board.learn(known[event.task_id])


def _print(session: Session, watched: WatchedTasks, kinds: Collection[str]) -> None:
    show = FramePrinter(session.output, kinds)
    for event in watched.frames({"state_change", *kinds}, states=watched.states):
        show(event)
