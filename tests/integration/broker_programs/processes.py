"""Starts the programs of this directory and reads what they wrote."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
DEADLINE_SECONDS = 40.0


def wait_until(condition: Callable[[], bool], what: str, seconds: float = DEADLINE_SECONDS) -> None:
    """Poll `condition` until it holds; fails with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def start_program(program: str, *arguments: object, output: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Start one of the programs with the interpreter of the tests; warnings are errors there too."""
    command = [sys.executable, "-W", "error", str(HERE / program), *map(str, arguments)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT, stderr=output)


class Worker:
    """A worker process and the lines it wrote, those of earlier processes on the same journal included.

    `settings` override Celery's. With `wait` it is ready when the constructor returns.
    """

    def __init__(
        self,
        url: str,
        journal: Path,
        *,
        name: str = "one",
        attempt_seconds: float = 0,
        settings: Mapping[str, object] | None = None,
        wait: bool = True,
    ) -> None:
        self.journal = journal
        self.log = journal.with_suffix(".log")
        self._started_before = len(self.lines())
        with self.log.open("ab") as log:
            arguments = (url, name, journal, attempt_seconds, json.dumps(settings or {}))
            self.process = start_program("worker.py", *arguments, output=log)
        if wait:
            self.wait_for("ready")

    def wait_for(self, line: str) -> None:
        """Wait until this process has written `line`; fails with its log when it has ended before."""

        def written() -> bool:
            assert self.alive() or line in self._own_lines(), self.log.read_text()[-3000:]
            return line in self._own_lines()

        wait_until(written, f"the worker has written {line!r}")

    def _own_lines(self) -> list[str]:
        return self.lines()[self._started_before :]

    def lines(self, first_word: str = "") -> list[str]:
        """The lines that begin with `first_word`."""
        text = self.journal.read_text() if self.journal.exists() else ""
        return [line for line in text.splitlines() if line.startswith(first_word)]

    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def kill(self) -> None:
        """End the process as a crash would."""
        self.process.kill()
        self.process.wait()

    def terminate(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask the process to end and answer its exit code; fails when it does not end."""
        self.process.send_signal(number)
        return self.process.wait(timeout=DEADLINE_SECONDS)
