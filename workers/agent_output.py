"""What an agent prints, line by line: kept as it is in a file on the host, and told as events of the journal.

The file is as long as what is stored of the output: a worker that goes on after another one cuts it to that length,
and finds the line that was not complete yet at its end.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator.models import Kind, NewRecord, Question
from workers.agents.port import Reader, Told
from workers.records import gap

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 16 << 20
"""A longer line is not read, only kept."""
ANSWER_BYTES = 4 << 20
"""So much of the end of the output is looked through for the final answer."""


@dataclass
class Heard:
    """What some output tells. `shown` stands for it in the task's own output."""

    shown: bytes = b""
    records: list[NewRecord] = field(default_factory=list)
    asked: list[Question] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)


class AgentOutput:
    """Used by one thread. `size_bytes` is the length of `file` that belongs to what was taken so far."""

    def __init__(self, reader: Reader, file: Path, size_bytes: int, limit_bytes: int) -> None:
        self._reader = reader
        self._file = file
        self._limit = limit_bytes
        self._fault: str | None = None
        self._skipping = False
        self._stored: dict[str, Any] | None = None
        self._line, self.size_bytes = _cut_back(file, size_bytes)

    def take(self, data: bytes, at: datetime) -> Heard:
        """Take what came next, which need not end with a line."""
        heard = Heard()
        self._keep(data, heard)
        *whole, rest = (self._line + data).split(b"\n")
        self._line = b""
        for line in whole:
            if self._skipping:
                self._skipping = False
            else:
                _add(heard, self._reader.read(line, at.timestamp()), at)
        self._line = self._bounded(rest, at, heard)
        if self._reader.shows_lines:
            heard.shown = data
        return heard

    def finish(self, at: datetime) -> Heard:
        """Nothing follows: a last line without an end is one, too."""
        heard, line = Heard(), self._line
        self._line = b""
        if line and not self._skipping:
            _add(heard, self._reader.read(line, at.timestamp()), at)
        return heard

    def changes(self) -> dict[str, Any] | None:
        """What is known of the run, as it is to be stored; None when that is stored already."""
        now = asdict(self._reader.seen)
        if now == self._stored:
            return None
        self._stored = now
        return now

    @property
    def seen(self) -> dict[str, Any]:
        return asdict(self._reader.seen)

    def _bounded(self, rest: bytes, at: datetime, heard: Heard) -> bytes:
        if self._skipping:
            return b""
        if len(rest) <= MAX_LINE_BYTES:
            return rest
        self._skipping = True
        heard.records.append(_words(f"a line of more than {MAX_LINE_BYTES >> 20} MiB of the agent was not read", at))
        return b""

    def _keep(self, data: bytes, heard: Heard) -> None:
        """The output goes on when the file cannot."""
        room = self._limit - self.size_bytes
        if self._fault is not None:
            return
        try:
            if len(data) > room:
                self._fault = f"it is larger than the limit of a log, {self._limit} bytes"
            _append(self._file, data[: max(0, room)])
            self.size_bytes += min(len(data), max(0, room))
        except OSError as error:
            self._fault = str(error)
        if self._fault is not None:
            log.warning("stream of an agent not kept", extra={"file": str(self._file), "error": self._fault})
            heard.records.append(gap(f"from here on the agent's raw stream is not kept as an artifact: {self._fault}"))


def last_lines(file: Path) -> Sequence[bytes]:
    """The last whole lines of an agent's output; none when there is none. Raises `OSError`."""
    try:
        with file.open("rb") as source:
            start = max(0, os.fstat(source.fileno()).st_size - ANSWER_BYTES)
            source.seek(start)
            lines = source.read().split(b"\n")
    except FileNotFoundError:
        return ()
    return lines[1:] if start else lines


def _add(heard: Heard, told: Told, at: datetime) -> None:
    heard.records += [NewRecord(Kind.EVENT, at, body={"type": one.type, **one.body}) for one in told.events]
    heard.asked += told.asked
    heard.withdrawn += told.withdrawn
    heard.shown += told.shown


def _words(text: str, at: datetime) -> NewRecord:
    return NewRecord(Kind.SYSTEM, at, "system", {"message": text})


def _append(file: Path, data: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
    finally:
        os.close(descriptor)


def _cut_back(file: Path, size_bytes: int) -> tuple[bytes, int]:
    """Cut the file to `size_bytes`; return its unfinished last line, and its length. Raises `OSError`."""
    try:
        with file.open("r+b") as kept:
            size = min(os.fstat(kept.fileno()).st_size, size_bytes)  # shorter after a crash of the host
            kept.truncate(size)
            kept.seek(max(0, size - MAX_LINE_BYTES))
            return kept.read().rpartition(b"\n")[2], size
    except FileNotFoundError:
        return b"", 0
