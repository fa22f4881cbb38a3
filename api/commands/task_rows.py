"""The rows of `sandbox task watch`: a line for each task, in columns that fit the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from api.commands import frames
from api.commands.clock_face import clock_face
from api.commands.state_colours import colour_of
from orchestrator.states import State

if TYPE_CHECKING:
    from rich.table import Table

    from api.commands.task_board import Seen

COLUMNS = ("state", "time", "task", "name", "done", "cpu", "memory", "last words")
_LAST = COLUMNS[-1]
_WIDEST = {"task": 36, "name": 24, "done": 24}
_LEAST_WORDS = 16
"""Characters that the last column must have before another one gives way."""
_GIVE_WAY = (
    ("task", 13), ("memory", 0), ("cpu", 0), ("name", 12), ("done", 6), ("name", 0), ("done", 0), ("time", 0),
    ("task", 8),
)  # fmt: skip
"""What becomes narrower, or goes, one after the other, where not all columns fit."""
_GAP = 2
_BAR_CELLS = 8
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_SPINS_PER_SECOND = 8


def task_rows(seen: Sequence[Seen], width: int, now: datetime) -> Table:
    """Return the rows of these tasks for a terminal of so many characters."""
    from rich.table import Table  # noqa: PLC0415 - only a terminal pays for importing rich
    from rich.text import Text  # noqa: PLC0415

    rows = [_cells(one, now) for one in seen]
    widths = _widths(rows, width)
    made = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="dim")
    for column, wide in widths.items():
        made.add_column(column, width=wide, overflow="ellipsis", no_wrap=True)
    for one, row in zip(seen, rows, strict=True):
        row["done"] = _done(one, now, widths.get("done", 0))
        styles = {"state": colour_of(one.state), "done": "cyan", _LAST: "dim"}
        made.add_row(*(Text(row[column], style=styles.get(column, "")) for column in widths))
    return made


def _cells(one: Seen, now: datetime) -> dict[str, str]:
    elapsed = one.elapsed_seconds(now)
    return {
        "state": f"{_sign(one)} {frames.visible(one.state)}",
        "time": "" if elapsed is None else clock_face(elapsed),
        "task": frames.visible(one.task_id),
        "name": one.name,
        "done": _done(one, now, _WIDEST["done"]),
        "cpu": frames.cpu(one.metrics) or "",
        "memory": frames.memory(one.metrics) or "",
        _LAST: one.said,
    }


def _sign(one: Seen) -> str:
    if one.has_ended:
        return "✓" if one.state == State.COMPLETED else "✗"
    return "●" if one.is_active else "○"


def _done(one: Seen, now: datetime, width: int) -> str:
    """A bar where the task says how far it is, if there is room; else what turns while it is worked on."""
    far = frames.percent(one.progress)
    if far is not None:
        full = round(max(0.0, min(far, 100.0)) / 100 * _BAR_CELLS)
        bar = f"{'█' * full}{'░' * (_BAR_CELLS - full)} "
        number = f"{far:.0f} %"
        return bar + number if len(bar + number) <= width else number
    if not one.is_active:
        return ""
    turn = _SPINNER[int(now.timestamp() * _SPINS_PER_SECOND) % len(_SPINNER)]
    return f"{turn} {frames.visible(str(one.progress.get('current_tool') or ''))}".rstrip()


def _widths(rows: Sequence[dict[str, str]], width: int) -> dict[str, int]:
    """The columns to show and their widths; one that is empty everywhere is not shown."""
    from rich.cells import cell_len  # noqa: PLC0415 - see `task_rows`

    longest = {column: max(cell_len(row[column]) for row in rows) for column in COLUMNS}
    widths = {
        column: min(max(long, len(column)), _WIDEST.get(column, max(long, len(column))))
        for column, long in longest.items()
        if long and column != _LAST
    }
    words = min(longest[_LAST], _LEAST_WORDS)
    for column, narrower in _GIVE_WAY:
        if _left(widths, width) >= words:
            break
        if column in widths:
            widths[column] = min(widths[column], narrower)
        widths = {one: wide for one, wide in widths.items() if wide}
    left = _left(widths, width)
    return widths | {_LAST: left} if words and left >= min(words, len(_LAST)) else widths


def _left(widths: dict[str, int], width: int) -> int:
    return width - sum(wide + _GAP for wide in widths.values())
