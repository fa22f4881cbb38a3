"""`--watch`: a picture that is redrawn on a terminal; in a pipe, a line for every change."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from api.commands.conversation import asked, how_to_answer
from api.commands.options import Session
from api.commands.render import FIELDS, Output, short_time, table

if TYPE_CHECKING:
    from rich.table import Table

POLL_SECONDS = 1.0
Task = dict[str, Any]
Cells = Sequence[object]


def watch_one(
    session: Session,
    read: Callable[[], Task],
    fields: Callable[[Task], Sequence[tuple[str, object]]],
    is_over: Callable[[Task], bool],
) -> None:
    """Show one task until `is_over`."""
    seen: object = None
    with _picture(session.output) as draw:
        while True:
            task = read()
            if draw is not None:
                draw(table(FIELDS, [pair for pair in fields(task) if pair[1] is not None]))
            elif _face(task) != seen:
                _line(session.output, task)
            seen = _face(task)
            if is_over(task):
                return
            time.sleep(POLL_SECONDS)


def watch_many(
    session: Session, read: Callable[[], Sequence[Task]], columns: Sequence[str], row: Callable[[Task], Cells]
) -> None:
    """Show a list of tasks until the user interrupts."""
    seen: dict[str, object] = {}
    with _picture(session.output) as draw:
        while True:
            tasks = read()
            if draw is not None:
                draw(table(columns, [row(task) for task in tasks]))
            else:
                for task in reversed(tasks):  # the list begins with the newest; changes read the other way
                    if seen.get(task["id"]) != _face(task):
                        _line(session.output, task)
            seen |= {task["id"]: _face(task) for task in tasks}
            time.sleep(POLL_SECONDS)


def _face(task: Task) -> object:
    """What must differ for a change to be worth a line."""
    return task["state"], task.get("state_message"), task.get("attempt"), (task.get("input_required") or {}).get("id")


def _line(output: Output, task: Task) -> None:
    if output.is_json:
        output.json_line(task)
        return
    at = short_time(task.get("state_changed_at") or task.get("created_at"))
    message = f": {task['state_message']}" if task.get("state_message") else ""
    output.line(f"{at}  {task['id']}  {task['state']}{message}")
    if question := task.get("input_required"):
        output.line(f"{at}  {task['id']}  asks: {asked(question)}; {how_to_answer(task['id'], question)}")


@contextmanager
def _picture(output: Output) -> Iterator[Callable[[Table], None] | None]:
    """Yield what redraws a picture in place, or None where there is no terminal to draw on."""
    if output.is_json or not output.terminal:
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - only a terminal pays for importing rich
    from rich.live import Live  # noqa: PLC0415

    with Live(console=Console(no_color=not output.colour), auto_refresh=False) as live:
        yield lambda made: live.update(made, refresh=True)
