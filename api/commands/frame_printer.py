"""Frames of the event stream as plain lines, or as JSON Lines."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field

from api.client import Event
from api.commands import frames
from api.commands.render import Output, short_time
from orchestrator.states import TERMINAL

LONGEST_LINE = 64 << 10
"""Characters of a line without an end that are held back."""
LONGEST_HOLD_SECONDS = 2.0
"""So long a line waits for its end: the end of its task may not be among what was asked for."""


Source = tuple[str | None, object, str]
"""Task, attempt, stream."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The beginning of a line, the event that brought its latest part, and since when (monotonic) it waits."""

    event: Event
    text: str
    since: float


@dataclass
class FramePrinter:
    """Prints the frames of these kinds one by one; output in whole lines, however it was cut on the way."""

    output: Output
    kinds: Collection[str]
    _unfinished: dict[Source, Unfinished] = field(default_factory=dict, init=False)

    def __call__(self, event: Event) -> None:
        if event.kind == "state_change" and event.body.get("new_state") in TERMINAL:
            self._finish([source for source in self._unfinished if source[0] == event.task_id])
        self._finish_old()
        if event.kind not in self.kinds and event.kind != "gap":
            return
        if self.output.is_json:
            self.output.json_line(event.body)
        elif event.kind == "output":
            self._print_lines(event)
        else:
            self._print(event, frames.words(event))

    def _print_lines(self, event: Event) -> None:
        source = event.task_id, event.body.get("attempt"), str(event.body.get("stream"))
        begun = self._unfinished.pop(source, None)
        *lines, rest = ((begun.text if begun else "") + str(event.body.get("data") or "")).split("\n")
        if len(rest) >= LONGEST_LINE:
            lines, rest = [*lines, rest], ""
        for line in lines:
            self._print_line(event, source[2], line)
        if rest:
            self._unfinished[source] = Unfinished(event, rest, begun.since if begun else time.monotonic())

    def _finish_old(self) -> None:
        until = time.monotonic() - LONGEST_HOLD_SECONDS
        self._finish([source for source, one in self._unfinished.items() if one.since < until])

    def _finish(self, sources: Collection[Source]) -> None:
        """Print what was left without a line end."""
        for source in sources:
            left = self._unfinished.pop(source)
            self._print_line(left.event, source[2], left.text)

    def _print_line(self, event: Event, stream: str, line: str) -> None:
        self._print(event, f"{stream}: {frames.visible(line.removesuffix(chr(13)))}")

    def _print(self, event: Event, text: str) -> None:
        self.output.line(f"{short_time(event.body.get('timestamp'))}  {event.task_id or '-'}  {text}")
