"""A picture that stays in one place of a terminal and is drawn again as it changes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from api.commands.render import Output

if TYPE_CHECKING:
    from rich.console import RenderableType

DRAWS_PER_SECOND = 8
_CANNOT_MOVE = frozenset({"dumb", "unknown"})


def moves_its_cursor() -> bool:
    """Tell whether something can be drawn again in its place on this terminal, if it is one."""
    return os.environ.get("TERM") not in _CANNOT_MOVE


def can_be_drawn(output: Output) -> bool:
    """Tell whether standard output is a place for a picture."""
    return output.terminal and not output.is_json and moves_its_cursor()


@contextmanager
def live_picture(output: Output, make: Callable[[int, int], RenderableType]) -> Iterator[None]:
    """Draw what `make` returns for a width and a height, in characters, until the block ends; it then stays there.

    `make` is called in another thread. Only where `can_be_drawn`.
    """
    from rich.console import Console  # noqa: PLC0415 - only a terminal pays for importing rich
    from rich.live import Live  # noqa: PLC0415

    console = Console(no_color=not output.colour, highlight=False)
    with Live(console=console, refresh_per_second=DRAWS_PER_SECOND, get_renderable=lambda: make(*console.size)):
        yield
