"""One process of the product: started, stopped, killed, paused by its process id; its log goes on across restarts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.stack import eventually
from tests.servers.process import pause

STOP_SECONDS = 60.0


@dataclass
class Part:
    """`sandbox api` or `sandbox worker`. `alone`: a kill hits this process only, not the children of its session."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log_file: Path
    is_ready: Callable[[Part], bool]
    alone: bool = True
    process: subprocess.Popen[bytes] | None = None
    began_at_byte: int = 0
    exit_codes: list[int] = field(default_factory=list)

    def start(self, *, wait: bool = True, **more: str) -> None:
        """Start it; `more` is environment for this start alone. With `wait`, return when it is ready."""
        assert not self.running, f"{self.name} runs already"
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-P", "-m", "orchestrator.cli", *self.command]
        with self.log_file.open("ab") as log:
            self.began_at_byte = log.tell()
            self.process = subprocess.Popen(
                argv,
                env={**os.environ, **self.environment, **more},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        eventually(f"{self.name} is ready, see {self.log_file}", lambda: self.is_ready(self) or self._ended_early())

    def _ended_early(self) -> bool:
        assert self.running, f"{self.name} ended with {self.exit_codes[-1:]} while starting:\n{self.said()[-3000:]}"
        return False

    @property
    def running(self) -> bool:
        """Whether the process is there (a paused one is). One that has ended is reaped here."""
        if self.process is None:
            return False
        if (code := self.process.poll()) is not None:
            self._reaped(code)
        return self.process is not None

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} does not run"
        return self.process.pid

    def said(self) -> str:
        """What it logged since its last start."""
        with self.log_file.open("rb") as log:
            log.seek(self.began_at_byte)
            return log.read().decode(errors="replace")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal and wait; return its exit code (the last one's when it does not run)."""
        if self.running:
            self.resume()
            self._signal(number)
            self._wait()
        return self.exit_codes[-1] if self.exit_codes else 0

    def kill(self) -> None:
        """End it by KILL, paused or not; nothing when it does not run."""
        if self.running:
            self._signal(signal.SIGKILL)
            self._wait()

    def pause(self) -> None:
        pause(self.pid, whole_session=not self.alone)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def wait_death(self, seconds: float = STOP_SECONDS) -> int:
        """Wait until it ends by itself; return its exit code."""
        eventually(f"{self.name} has ended", lambda: not self.running, seconds)
        return self.exit_codes[-1]

    def _signal(self, number: signal.Signals) -> None:
        whole_session = not self.alone and number in (signal.SIGKILL, signal.SIGCONT)
        (os.killpg if whole_session else os.kill)(self.pid, number)

    def _wait(self) -> None:
        assert self.process is not None
        self._reaped(self.process.wait(STOP_SECONDS))

    def _reaped(self, code: int) -> None:
        self.exit_codes.append(code)
        self.process = None
