"""Other processes on the same store: what only they can show about locks and commits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[3]


class Program:
    """A program of `programs/` that answers lines with lines."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def say(self, line: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        """As `kill -9` does: nothing is said goodbye to."""
        self.process.kill()
        self.process.wait()


@contextmanager
def program(name: str, *arguments: str) -> Iterator[Program]:
    argv = [sys.executable, "-m", f"tests.integration.store.programs.{name}", *arguments]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Program(process)
        finally:
            process.kill()
