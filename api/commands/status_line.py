"""One line beneath everything else that a terminal shows, redrawn in its place while other lines scroll above it."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TextIO

from api.commands.live_picture import DRAWS_PER_SECOND, moves_its_cursor

_ERASE_BELOW = "\x1b[J"
_MAKE_ROOM_BELOW = "\x1bD\x1b[A"  # scrolls when this is the last line of the screen; the column stays
_BELOW, _BACK = "\x1b7\x1b[B\r", "\x1b8"
_WIDTH_UNKNOWN = 80


def place_for_a_line() -> TextIO | None:
    """Return the stream whose terminal can have such a line; None where there is none.

    Where standard output is a pipe its reader may write on the same terminal, at any time: nothing is drawn there.
    """
    if not moves_its_cursor():
        return None
    if sys.stderr.isatty():
        return sys.stderr if sys.stdout.isatty() or not _is_read_by_another() else None
    return sys.stdout if sys.stdout.isatty() else None


def _is_read_by_another() -> bool:
    mode = os.fstat(sys.stdout.fileno()).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


class StatusLine:
    """Draws what `make` returns for a width in characters, coloured or not, until its block ends; then it is gone.

    Whatever else is written on the terminal must be written within `lifted`. Between two writes the cursor is where
    the other text has ended, also within a line.
    """

    def __init__(self, terminal: TextIO, make: Callable[[int], str]) -> None:
        self._terminal = terminal
        self._make = make
        self._drawn = ""
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._drawing = threading.Thread(target=self._draw_on, name="status-line", daemon=True)

    def __enter__(self) -> Self:
        self._drawing.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._drawing.join()
        self._erase()

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Take the line away while something else is written; it comes back a moment later."""
        with self._lock:
            self._erase()
            yield

    def _draw_on(self) -> None:
        while not self._over.wait(1 / DRAWS_PER_SECOND):
            with self._lock:
                try:
                    self._draw()
                except OSError:  # the terminal is gone
                    return

    def _draw(self) -> None:
        text = self._make(self._width())
        if text != self._drawn:
            self._terminal.write(f"{_ERASE_BELOW}{_MAKE_ROOM_BELOW}{_BELOW}{text}{_BACK}")
            self._terminal.flush()
            self._drawn = text

    def _erase(self) -> None:
        if self._drawn:
            self._terminal.write(_ERASE_BELOW)
            self._terminal.flush()
            self._drawn = ""

    def _width(self) -> int:
        try:
            return os.get_terminal_size(self._terminal.fileno()).columns or _WIDTH_UNKNOWN
        except OSError:
            return _WIDTH_UNKNOWN
