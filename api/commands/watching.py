"""`--watch`: a picture that is redrawn on a terminal; in a pipe, a line for every change."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from api.client import Event, ServerRefused, ServerUnreachable
from api.commands.conversation import asked, how_to_answer
from api.commands.live_picture import can_be_drawn, live_picture
from api.commands.options import Session
from api.commands.render import FIELDS, Output, short_time, table
from orchestrator.states import TERMINAL, State

if TYPE_CHECKING:
    from rich.table import Table

POLL_SECONDS = 1.0
"""The least between two looks at the same thing."""
STALE_SECONDS = 5.0
"""What a task waits for can change without a frame: look again after so long."""
CHANGES = ("state_change", "error", "event")
"""The frames that tell of a change of what `GET /tasks/{id}` answers."""
_OF_AGENT = frozenset({"input_required", "input_withdrawn", "input"})

Task = dict[str, Any]
Body = Mapping[str, Any]
Cells = Sequence[object]
Fields = Sequence[tuple[str, object]]
Found = TypeVar("Found")
Shown = TypeVar("Shown")


def watch_one(session: Session, task_id: str, fields: Callable[[Task, Body], Fields]) -> None:
    """Show one task until it has ended. `fields` are those of the task, with what its sandbox uses just now."""
    task = session.client.get(task_id)
    metrics: Body = {}

    def made(shown: tuple[Task, Body]) -> Table:
        return table(FIELDS, [pair for pair in fields(*shown) if pair[1] is not None])

    with _shown(session.output, made, lambda shown: shown[:1]) as show:
        show((task, metrics))
        if task["state"] in TERMINAL:
            return
        for event in session.client.events(
            task_id,
            filters=(*CHANGES, "progress", "metrics") if can_be_drawn(session.output) else CHANGES,
            heartbeat_interval_ms=int(STALE_SECONDS * 1000),
            heartbeats=True,
        ):
            if event.kind == "metrics":
                metrics = event.body.get("metrics") or {}
            elif event.kind == "progress":
                task = {**task, "progress": event.body.get("progress")}
            elif event.kind == "heartbeat" or _changes_something(event):
                task = _again(lambda: session.client.get(task_id)) or task
            if task["state"] != State.RUNNING:  # its sandbox is gone, or another one's will come
                metrics = {}
            show((task, metrics))
            if task["state"] in TERMINAL:
                return


def watch_many(
    session: Session,
    read: Callable[[], Sequence[Task]],
    labels: Mapping[str, str],
    columns: Sequence[str],
    row: Callable[[Task], Cells],
) -> None:
    """Show what `read` returns, a list of tasks that all carry `labels`, until the user interrupts."""

    def made(tasks: Sequence[Task]) -> Table:
        return table(columns, [row(task) for task in tasks])

    with _shown(session.output, made, reversed) as show:  # a list begins with the newest; changes read the other way
        show(read())
        read_at, is_stale = time.monotonic(), True
        for event in session.client.events(
            labels=labels,
            filters=CHANGES,
            exclude_preexisting=True,
            heartbeat_interval_ms=1000,  # when nothing follows a change, this is when we look again
            heartbeats=True,
        ):
            is_stale = is_stale or _changes_something(event)
            age_seconds = time.monotonic() - read_at
            if age_seconds < (POLL_SECONDS if is_stale else STALE_SECONDS) or (tasks := _again(read)) is None:
                continue
            show(tasks)
            read_at, is_stale = time.monotonic(), False


def _changes_something(event: Event) -> bool:
    if event.kind == "event":
        return (event.body.get("event") or {}).get("type") in _OF_AGENT
    return event.kind != "heartbeat" and not event.is_preexisting


def _again(read: Callable[[], Found]) -> Found | None:
    """Read once more; None while the server is away, for which the event stream has its own patience."""
    try:
        return read()
    except ServerUnreachable:
        return None
    except ServerRefused as error:
        if error.may_pass:
            return None
        raise


def _shown(
    output: Output, made: Callable[[Shown], Table], tasks_of: Callable[[Shown], Iterable[Task]]
) -> AbstractContextManager[Callable[[Shown], None]]:
    return _picture(output, made) if can_be_drawn(output) else _news(output, tasks_of)


@contextmanager
def _picture(output: Output, made: Callable[[Shown], Table]) -> Iterator[Callable[[Shown], None]]:
    """Yield what takes the newest, for a picture that `made` makes of it."""
    newest: list[Shown] = []

    def show(shown: Shown) -> None:
        newest[:] = [shown]

    with live_picture(output, lambda _width, _height: made(newest[0]) if newest else ""):
        yield show


@contextmanager
def _news(output: Output, tasks_of: Callable[[Shown], Iterable[Task]]) -> Iterator[Callable[[Shown], None]]:
    """Yield what prints the tasks that have changed since it was called before."""
    seen: dict[str, object] = {}

    def show(shown: Shown) -> None:
        for task in tasks_of(shown):
            if seen.get(task["id"]) != _face(task):
                _line(output, task)
            seen[task["id"]] = _face(task)

    yield show


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
    output.hint(task)
