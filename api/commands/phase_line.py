"""The line beneath a log that is followed: what the task is at, for how long, and what it uses."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from api.client import Client, Event, LogRecord
from api.commands import frames
from api.commands.clock_face import clock_face
from api.commands.options import Session
from api.commands.state_colours import colour_of
from api.commands.status_line import StatusLine, place_for_a_line
from orchestrator.states import TERMINAL, State

HEARTBEAT_INTERVAL_MS = 1000
"""After the end of the line, the connection that has fed it is given up at the next of these."""
OnRecord = Callable[[LogRecord], None]


class Phase:
    """What the line says. Its state is the log's, its usage the event stream's; neither waits for the other."""

    def __init__(self, state: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._state = state
        self._since = clock()
        self._attempt = 1
        self._told: dict[str, Event] = {}

    def take_record(self, record: LogRecord) -> None:
        """Note a state change of the log; other records tell nothing of the phase."""
        body = record.body
        if body.get("type") != "state_change":
            return
        self._state, self._since = str(body.get("new_state")), self._clock()
        self._attempt = int(body.get("attempt") or self._attempt)

    def take_event(self, event: Event) -> None:
        """Note what the sandbox uses and how far the task says it is."""
        self._told[event.kind] = event

    def line(self, width: int, *, coloured: bool) -> str:
        """Return the line for a terminal of so many characters; the last one stays free."""
        from rich.cells import cell_len, set_cell_size  # noqa: PLC0415 - only a terminal pays for importing rich

        head = f"● {frames.visible(self._state)} {clock_face(self._clock() - self._since)}"
        text = " · ".join([head, *self._details()])
        if cell_len(text) >= width:
            text = f"{set_cell_size(text, max(0, width - 2)).rstrip()}…"
        if coloured and text.startswith(head):
            return click.style(head, fg=colour_of(self._state) or None) + text.removeprefix(head)
        return text

    def _details(self) -> list[str]:
        parts = [f"attempt {self._attempt}"] if self._attempt > 1 else []
        metrics = self._of_attempt("metrics") if self._state == State.RUNNING else {}
        used = ("cpu", frames.cpu(metrics)), ("memory", frames.memory(metrics))
        parts += [f"{name} {value}" for name, value in used if value is not None]
        said = frames.progress_words(self._of_attempt("progress")) if self._state != State.PENDING else ""
        return [*parts, said] if said else parts

    def _of_attempt(self, kind: str) -> dict[str, Any]:
        """The newest of this kind, if it is of the attempt that the log is at."""
        event = self._told.get(kind)
        if event is None or event.body.get("attempt") != self._attempt:
            return {}
        return event.body.get(kind) or {}


@contextmanager
def phase_line(session: Session, task_id: str, state: str) -> Iterator[Callable[[OnRecord], OnRecord]]:
    """Show the phase of a task, which begins in `state`, beneath what a printer of its log writes.

    Yields what wraps the printer; where there is no terminal for the line, nothing happens to it.
    """
    terminal = None if session.output.is_json else place_for_a_line()
    if terminal is None:
        yield lambda on_record: on_record
        return
    phase, is_over = Phase(state), threading.Event()
    coloured = not os.environ.get("NO_COLOR")
    with StatusLine(terminal, lambda width: phase.line(width, coloured=coloured)) as line:

        def above_the_line(on_record: OnRecord) -> OnRecord:
            def print_one(record: LogRecord) -> None:
                phase.take_record(record)
                with line.lifted():
                    on_record(record)

            return print_one

        listening = (session.client, task_id, phase.take_event, is_over)
        threading.Thread(target=_listen, args=listening, name="phase-line", daemon=True).start()
        try:
            yield above_the_line
        finally:
            is_over.set()


def _listen(client: Client, task_id: str, take: Callable[[Event], None], is_over: threading.Event) -> None:
    try:
        for event in client.events(
            task_id,
            filters=("state_change", "progress", "metrics"),
            exclude_preexisting=True,
            heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
            heartbeats=True,
        ):
            take(event)
            if is_over.is_set() or event.body.get("new_state") in TERMINAL:
                return
    except Exception:  # noqa: BLE001 - the line says less then; who follows the log has come for the log
        return
