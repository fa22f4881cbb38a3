"""Starts the programs of this directory and reads what they wrote."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
DEADLINE_SECONDS = 40.0


def wait_until(condition: Callable[[], bool], what: str, seconds: float = DEADLINE_SECONDS) -> None:
    """Poll `condition` until it holds; fails with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def start_program(program: str, *arguments: object) -> subprocess.Popen[bytes]:
    """Start one of the programs with the interpreter of the tests; warnings are errors there too."""
    command = [sys.executable, "-W", "error", str(HERE / program), *map(str, arguments)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT)


class Worker:
    """A worker process and the lines it wrote, those of earlier processes on the same journal included."""

    def __init__(self, directory: Path, journal: Path, name: str = "one", attempt_seconds: float = 0) -> None:
        self.journal = journal
        ready_before = self.lines().count("ready")
        self.process = start_program("worker.py", directory, name, journal, attempt_seconds)
        wait_until(lambda: self.lines().count("ready") > ready_before, f"worker {name} is ready")

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
