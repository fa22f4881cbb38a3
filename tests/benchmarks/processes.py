"""Processes as /proc shows them: memory, CPU time, and which ones belong to a stack."""

import os
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Process:
    """One process. Every method raises `OSError` when it has ended."""

    pid: int

    @property
    def title(self) -> str:
        """Its command line, short enough for a table."""
        words = Path(f"/proc/{self.pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        return " ".join(Path(word).name if "/" in word else word for word in words if word)[:40]

    def rss_bytes(self) -> int:
        """Resident memory, shared pages included."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE

    def pss_bytes(self) -> int:
        """Resident memory with each shared page divided by the number of its users."""
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) * 1024

    def cpu_seconds(self) -> float:
        """CPU time used so far, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def kill(self) -> None:
        """End it; nothing happens when it has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def marked_processes(marker: str, directory: str) -> list[Process]:
    """Processes that inherited BENCHMARK_STACK=`marker` or name `directory` in their command line.

    Not by parentage: a process in a session of its own may have lost its parent.
    """
    wanted = f"BENCHMARK_STACK={marker}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            if wanted in (entry / "environ").read_bytes() or directory.encode() in (entry / "cmdline").read_bytes():
                found.append(Process(int(entry.name)))
    return sorted(found, key=lambda process: process.pid)


class PeakMemory:
    """Samples the resident memory of processes in a thread while its `with` block runs."""

    def __init__(self, processes: list[Process], interval_seconds: float = 0.05) -> None:
        self._processes = processes
        self._interval_seconds = interval_seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.peak_bytes: dict[Process, int] = {}
        self.first_bytes: dict[Process, int] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            for process in self._processes:
                with suppress(OSError):
                    now = process.rss_bytes()
                    self.first_bytes.setdefault(process, now)
                    self.peak_bytes[process] = max(now, self.peak_bytes.get(process, 0))
            if self._done.wait(self._interval_seconds):
                return
