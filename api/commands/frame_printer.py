"""Frames of the event stream as plain lines, or as JSON Lines."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from api.client import Event
from api.commands import frames
from api.commands.render import Output, short_time
from orchestrator.states import TERMINAL

LONGEST_LINE = 64 << 10
"""Characters of a line without an end that are held back."""


@dataclass
class FramePrinter:
    """Prints the frames of these kinds one by one; output in whole lines, however it was cut on the way."""

    output: Output
    kinds: Collection[str]
    _unfinished: dict[tuple[str | None, str], str] = field(default_factory=dict, init=False)

    def __call__(self, event: Event) -> None:
        if event.kind == "state_change" and event.body.get("new_state") in TERMINAL:
            self._finish(event)
        if event.kind not in self.kinds and event.kind != "gap":
            return
        if self.output.is_json:
            self.output.json_line(event.body)
        elif event.kind == "output":
            self._print_lines(event)
        else:
            self._print(event, frames.words(event))

    def _print_lines(self, event: Event) -> None:
        source = event.task_id, str(event.body.get("stream"))
        *lines, rest = (self._unfinished.pop(source, "") + str(event.body.get("data") or "")).split("\n")
        if len(rest) >= LONGEST_LINE:
            lines, rest = [*lines, rest], ""
        for line in lines:
            self._print_line(event, source[1], line)
        if rest:
            self._unfinished[source] = rest

    def _finish(self, event: Event) -> None:
        """Print what a task that has ended left without a line end."""
        for source in [one for one in self._unfinished if one[0] == event.task_id]:
            self._print_line(event, source[1], self._unfinished.pop(source))

    def _print_line(self, event: Event, stream: str, line: str) -> None:
        self._print(event, f"{stream}: {frames.visible(line.removesuffix(chr(13)))}")

    def _print(self, event: Event, text: str) -> None:
        self.output.line(f"{short_time(event.body.get('timestamp'))}  {event.task_id or '-'}  {text}")
