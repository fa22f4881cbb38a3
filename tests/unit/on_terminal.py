"""The `sandbox` command on a terminal of its own, whose screen is read as it goes."""

from __future__ import annotations

import codecs
import os
import pty
import select
import signal
import termios
import time
from types import TracebackType
from typing import Any, Self

from tests.unit.screen import Screen
from tests.unit.test_cli import started

PATIENCE_SECONDS = 20


class OnTerminal:
    """Use it in a `with` block. `also` replaces some of the command's standard streams."""

    def __init__(
        self, *args: str, columns: int = 100, rows: int = 24, env: dict[str, str] | None = None, **also: Any
    ) -> None:
        self.controller, terminal = pty.openpty()
        termios.tcsetwinsize(terminal, (rows, columns))
        self.screen = Screen(columns, rows)
        self.raw = ""
        streams = {"stdin": terminal, "stdout": terminal, "stderr": terminal} | also
        self.process = started(*args, env=env or {}, **streams)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        os.close(terminal)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.controller)

    def until(self, words: str) -> None:
        """Read until the screen shows these words."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while words not in self.screen.text:
            assert time.monotonic() < deadline, f"{words!r} has not come: {self.screen.text!r}"
            assert self._read(), f"{words!r} will not come: {self.screen.text!r}"

    def interrupt(self) -> int:
        """Send what Ctrl-C sends; return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> int:
        """Read until the command has ended; return its exit code."""
        while self._read():
            pass
        return self.process.wait(timeout=PATIENCE_SECONDS)

    def _read(self) -> bool:
        assert select.select([self.controller], [], [], PATIENCE_SECONDS)[0], (
            f"nothing more comes: {self.screen.text!r}"
        )
        try:
            chunk = self._decoder.decode(os.read(self.controller, 65536))
        except OSError:  # Linux's way to say that the other side is closed
            return False
        self.raw += chunk
        self.screen.feed(chunk)
        return True
