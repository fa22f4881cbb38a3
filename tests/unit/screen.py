"""A terminal, as far as this product's pictures use one: what its screen shows after what was written on it.

It refuses what it does not know, so that a picture which uses something else fails its test.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])|\x1b([78DM])|([\r\n\x07])|([^\x00-\x1f\x7f])")


class Screen:
    """Feed it what was written; `lines` are what it shows, `scrolled` what has left it at the top."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.columns = columns
        self.rows = rows
        self.cells = [[" "] * columns for _ in range(rows)]
        self.scrolled: list[str] = []
        self.row = self.column = 0
        self.cursor_is_shown = True
        self._saved = (0, 0)

    @property
    def lines(self) -> list[str]:
        return "\n".join("".join(row).rstrip() for row in self.cells).rstrip("\n").split("\n")

    @property
    def text(self) -> str:
        """All that can be read: what has scrolled away, too."""
        return "\n".join([*self.scrolled, *self.lines])

    def feed(self, text: str) -> None:
        at = 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            assert found, f"this terminal does not know {text[at : at + 20]!r}"
            params, final, escape, control, char = found.groups()
            if final:
                self._control(params, final)
            elif escape:
                self._escape(escape)
            elif control:
                self._move(control)
            else:
                self._put(char)
            at = found.end()

    def _put(self, char: str) -> None:
        if self.column == self.columns:  # the wrap was pending
            self.column = 0
            self._down()
        self.cells[self.row][self.column] = char
        self.column += 1

    def _move(self, control: str) -> None:
        if control == "\r":
            self.column = 0
        elif control == "\n":
            self._down()

    def _escape(self, escape: str) -> None:
        if escape == "7":
            self._saved = (self.row, self.column)
        elif escape == "8":
            self.row, self.column = self._saved
        elif escape == "D":
            self._down()
        else:
            raise AssertionError(f"this terminal does not know ESC {escape}")

    def _control(self, params: str, final: str) -> None:
        count = int(params) if params.isdigit() else 1
        if final == "A":
            self.row = max(0, self.row - count)
        elif final == "B":
            self.row = min(self.rows - 1, self.row + count)
        elif final == "J" and params in {"", "0"}:
            self.cells[self.row][self.column :] = [" "] * (self.columns - self.column)
            self.cells[self.row + 1 :] = [[" "] * self.columns for _ in range(self.rows - self.row - 1)]
        elif final == "K" and params == "2":
            self.cells[self.row] = [" "] * self.columns
        elif final in "hl" and params == "?25":
            self.cursor_is_shown = final == "h"
        else:
            assert final == "m", f"this terminal does not know CSI {params}{final}"

    def _down(self) -> None:
        if self.row < self.rows - 1:
            self.row += 1
            return
        self.scrolled.append("".join(self.cells.pop(0)).rstrip())
        self.cells.append([" "] * self.columns)
