"""Log records as people and programs read them (contract §5)."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field

import click

from api import conversation
from api.client import LogRecord
from api.commands.render import Output, plain, short_time

_OUTPUT = ("stdout", "stderr")
_STRUCTURE = frozenset({"seq", "timestamp", "stream", "type", "data", "message", "cursor", "attempt", "task_id"})


@dataclass
class LogPrinter:
    """Prints records one by one.

    As text, stdout gets what the task printed and nothing else, so that it can be piped; state changes and
    the product's own lines go to stderr, unless `marked` names stream and time in front of every line.
    """

    output: Output
    marked: bool = False
    _last: str = field(default="\n", init=False)

    def __call__(self, record: LogRecord) -> None:
        if self.output.is_json:
            self.output.json_line({"stream": record.kind, **record.body, "cursor": record.cursor})
        elif record.kind == "end":
            self.finish()
        elif self.marked or self.output.form == "table":
            self._mark(record)
        elif record.kind in _OUTPUT:
            self._print(record)
        else:
            self.finish()
            click.echo(self._dimmed(describe(record)), err=True)
        sys.stdout.flush()

    def finish(self) -> None:
        """On a terminal, end a line that the task left open."""
        if self.output.terminal and not self._last.endswith("\n"):
            click.echo()
            self._last = "\n"

    def _print(self, record: LogRecord) -> None:
        """Write output as it is, colours included; click would strip them."""
        data = record.data
        if record.kind == "stderr" and self.output.colour:
            data = click.style(data, fg="red", dim=True)
        sys.stdout.write(data)
        self._last = record.data or self._last

    def _mark(self, record: LogRecord) -> None:
        time = str(record.body.get("timestamp") or "-")
        text = record.data.removesuffix("\n") if record.kind in _OUTPUT else describe(record)
        if self.output.form == "table":
            click.echo(f"{short_time(time)}  {record.kind:<6}  {text}", color=self.output.colour)
        else:
            click.echo(f"[{time}] [{record.kind.upper()}] {text}", color=True)

    def _dimmed(self, text: str) -> str:
        return click.style(text, dim=True) if self.output.colour and sys.stderr.isatty() else text


def describe(record: LogRecord) -> str:
    """Say in one line what a record that is no output tells."""
    body = record.body
    if body.get("type") == "state_change":
        change = plain(body.get("new_state"))
        if body.get("previous_state"):
            change = f"{plain(body['previous_state'])} -> {change}"
        return change + (f": {plain(body['state_message'])}" if body.get("state_message") else "")
    if told := conversation.lines(body):
        return " ".join(told)  # escaped already
    artifact = body.get("artifact")
    if isinstance(artifact, dict):
        return plain(f"artifact {artifact.get('path')} ({artifact.get('size_bytes')} bytes)")
    said = body.get("message") or body.get("data")
    rest = {key: value for key, value in body.items() if key not in _STRUCTURE}
    words = [str(body["type"])] if body.get("type") else [record.kind] if record.kind == "gap" else []
    words += [str(said).rstrip("\n")] if said else []
    words += [json.dumps(rest, ensure_ascii=False)] if rest and not said else []
    return plain(" ".join(words))
