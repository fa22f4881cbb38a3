"""What commands print: JSON alone, plain aligned text, or tables. Messages about the work go to stderr."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from api.commands.state_colours import colour_of
from api.plain_text import escaped

if TYPE_CHECKING:
    from rich.table import Table

FORMS = ("text", "json", "table")
_WIDE_ENOUGH = 240
"""Columns of a table that goes to a pipe: nothing is cut off there."""

FIELDS = ("field", "value")
WIDEST = 36  # an id the server chose
WIDE = 20
WIDE_TERMINAL = 120
ON_WIDE_TERMINALS = frozenset({"created", "worker", "event", "tries"})
IDS = frozenset({"id", "task"})


def plain(value: object) -> str:
    """Return text for one line of a terminal: control characters, which could repaint it, come escaped."""
    if value is None:
        return "-"
    return escaped(str(value))


def short_time(value: str | None) -> str:
    """Return an RFC 3339 time to the second, in UTC as the server sent it."""
    if not value:
        return "-"
    try:
        return datetime.fromisoformat(value).strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return plain(value)


def size(count: int | None) -> str:
    """Return a number of bytes for people, in powers of 1024."""
    if count is None:
        return "-"
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


@dataclass(frozen=True, slots=True)
class Output:
    """How this run prints. `terminal` and `colour` are about stdout."""

    form: str
    terminal: bool
    colour: bool

    @classmethod
    def chosen(cls, form: str | None, *, listing: bool) -> Output:
        """Return the form asked for; by default lists are tables on a terminal, everything else is text."""
        terminal = sys.stdout.isatty()
        colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        return cls(form or ("table" if listing and terminal else "text"), terminal, colour)

    @property
    def is_json(self) -> bool:
        return self.form == "json"

    def json(self, value: Any) -> None:
        """Print one JSON document."""
        click.echo(json.dumps(value, indent=2))

    def json_line(self, value: Any) -> None:
        """Print one of several JSON documents, on one line."""
        click.echo(json.dumps(value))

    def line(self, text: str) -> None:
        """Print one line of the result."""
        click.echo(plain(text))

    def note(self, text: str) -> None:
        """Print one line that is no part of the result."""
        click.echo(plain(text), err=True)

    def why(self, task: Mapping[str, Any]) -> None:
        """Say how a task ended that did not complete, and what can be done about it."""
        outcome = task.get("outcome") or {}
        if outcome.get("message"):
            self.note(f"{outcome.get('reason')}: {outcome['message']}")
        self.hint(task)

    def hint(self, task: Mapping[str, Any]) -> None:
        """Say what can be done about the outcome of a task, if it has one and that says so."""
        for line in str((task.get("outcome") or {}).get("hint") or "").splitlines():
            self.note(line)

    def rows(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print a list."""
        if self.form == "table":
            self.print_table(table(columns, rows))
        else:
            for line in aligned([columns, *rows]):
                click.echo(line)

    def fields(self, pairs: Iterable[tuple[str, object]]) -> None:
        """Print one object, a field on each line."""
        present = [(name, value) for name, value in pairs if value is not None]
        if self.form == "table":
            self.print_table(table(FIELDS, present))
            return
        for name, value in present:
            click.echo(f"{name + ':':<12} {plain(value)}")

    def print_table(self, made: Table) -> None:
        """Print a rich table, as wide as the terminal; in a pipe wide enough for every cell."""
        from rich.console import Console  # noqa: PLC0415 - only tables pay for importing rich

        Console(no_color=not self.colour, width=None if self.terminal else _WIDE_ENOUGH, highlight=False).print(made)


def aligned(rows: Sequence[Sequence[object]]) -> list[str]:
    """Return rows as plain lines whose columns begin at the same place; the first row is the heading."""
    cells = [[plain(cell) for cell in row] for row in rows]
    cells[0] = [cell.upper() for cell in cells[0]]
    widths = [max(len(row[at]) for row in cells) for at in range(len(cells[0]))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return rows as a rich table; a cell that is a state has its colour."""
    from rich import box  # noqa: PLC0415 - only tables pay for importing rich
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    cells = [[plain(cell) for cell in row] for row in rows]
    shown = _fitting(columns)
    widths = _widths([columns[at] for at in shown], [[len(row[at]) for at in shown] for row in cells])
    for at, width in zip(shown, widths, strict=True):
        if tuple(columns) == FIELDS:
            made.add_column(columns[at], overflow="fold", no_wrap=at == 0)
        else:  # one line a row
            made.add_column(columns[at], overflow="ellipsis", no_wrap=True, width=width)
    for row in cells:
        made.add_row(*(Text(row[at], style=colour_of(row[at])) for at in shown))
    return made


def _widths(heads: list[str], rows: list[list[int]]) -> list[int]:
    """As wide as the cells, but names at most so wide; the last column has what is left of the terminal."""
    longest = [max(lengths) for lengths in zip(map(len, heads), *rows, strict=True)]
    widest = [WIDEST if at == 0 or head in IDS else WIDE for at, head in enumerate(heads[:-1])]
    widths = [min(width, most) for width, most in zip(longest, widest, strict=False)]
    left = shutil.get_terminal_size().columns - 1 - sum(width + 2 for width in widths) - 2
    return [*widths, max(8, min(longest[-1], left))]


def _fitting(columns: Sequence[str]) -> list[int]:
    """The columns to show: on a narrow terminal, not those that `status` tells better."""
    narrow = shutil.get_terminal_size().columns < WIDE_TERMINAL
    return [at for at, column in enumerate(columns) if not (narrow and column in ON_WIDE_TERMINALS)]
