"""The conversation with an agent, from the records of its task's log."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from api.client import LogRecord
from api.commands.records import LogPrinter
from api.commands.render import Output
from api.conversation import is_routine, lines, usage_line
from api.plain_text import escaped

STREAMS = "stderr,events,system"
"""What a conversation is read from: standard output says the same in the agent's own JSON."""
_COLOURS: dict[str, dict[str, Any]] = {
    "tool_use": {"dim": True},
    "tool_result": {"fg": "red"},
    "api_retry": {"fg": "yellow"},
    "mcp_failed": {"fg": "red"},
    "permission_denied": {"fg": "red"},
    "background": {"dim": True},
    "agent_started": {"dim": True},
    "input_required": {"fg": "yellow", "bold": True},
    "input_withdrawn": {"fg": "yellow"},
    "input": {"fg": "cyan"},
}


def is_agents(task: Mapping[str, Any]) -> bool:
    """True when the task is a coding agent's."""
    return "claude" in (task.get("definition") or {})


def asked(question: Mapping[str, Any]) -> str:
    """What is asked, in one line."""
    return " ".join(str(question.get("text") or "").split("\n"))


def how_to_answer(task_id: str, question: Mapping[str, Any]) -> str:
    """What to type to answer a question of a task."""
    # The id is the sandbox's word, and people paste this into a shell.
    named = shlex.quote(escaped(str(question.get("id"))))
    answer = "allow|deny" if question.get("kind") == "permission" else "TEXT"
    return f"answer with `sandbox task send {shlex.quote(task_id)} --question {named} --answer {answer}`"


def is_said(record: LogRecord) -> bool:
    """True for what is a part of the conversation, or was printed beside it."""
    if record.kind == "event" and lines(record.body) is not None:
        return not is_routine(record.body)
    return record.kind == "stderr"


def last_of(read: Callable[[int], Iterable[LogRecord]], count: int) -> list[LogRecord]:
    """The end of a log from the last `count` records of its conversation on. `read` gives the log's last so many lines.

    Tools that did what they were to, state changes and the product's own words come in between, any number of them.
    """
    asked = 4 * count + 100
    while True:
        records = list(read(asked))
        said = [index for index, record in enumerate(records) if is_said(record)]
        if len(said) >= count:
            return records[said[-count] :]
        if len(records) < asked:
            return records
        asked *= 4


def used_by_agent(task: Mapping[str, Any]) -> str | None:
    """What the task's agent has used, in one line; None when there is none."""
    used = (task.get("usage") or {}).get("agent")
    return usage_line(used) if used else None


@dataclass
class ConversationPrinter:
    """Prints a log's records one by one as `LogPrinter` does, those of the agent as a conversation on stdout.

    `live`: who reads may still answer what is asked; else only the question `waiting_for` is open. `is_resumed`: the
    agent counts what its session had used before, too.
    """

    output: Output
    task_id: str
    live: bool
    waiting_for: str | None = None
    marked: bool = False
    is_resumed: bool = False

    def __post_init__(self) -> None:
        self._log = LogPrinter(self.output, marked=self.marked)

    def __call__(self, record: LogRecord) -> None:
        told = lines(record.body, is_resumed=self.is_resumed) if record.kind == "event" else None
        if told is None:
            self._log(record)
        elif not is_routine(record.body):
            self._log.finish()
            for line in told:
                self._print(record, line)
            if record.body.get("type") == "input_required" and self._is_open(record.body):
                click.echo(f"  {how_to_answer(self.task_id, record.body)}", err=True)
            sys.stdout.flush()

    def finish(self) -> None:
        self._log.finish()

    def _print(self, record: LogRecord, line: str) -> None:
        style = _COLOURS.get(str(record.body.get("type")))
        if record.body.get("type") == "result" and record.body.get("is_error"):
            style = {"fg": "red"}
        text = click.style(line, **style) if style and self.output.colour else line
        if self.marked:
            text = f"[{record.body.get('timestamp') or '-'}] [EVENT] {text}"
        click.echo(text, color=True)

    def _is_open(self, question: Mapping[str, Any]) -> bool:
        return self.live or question.get("id") == self.waiting_for
