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
from workers.records import gap, words

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 4 << 20
"""A longer line is not read, only kept."""
MAX_LINE_EVENTS = 200
"""Of one line; an answer of a model has a few parts."""
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
    """Used by one thread, but for `seen`. `size_bytes` is the length of `file` that belongs to what was taken so far.

    `is_whole` is false once something of the output is not in the file.
    """

    def __init__(self, reader: Reader, file: Path, size_bytes: int, limit_bytes: int, *, is_whole: bool = True) -> None:
        self._reader = reader
        self._file = file
        self._limit = limit_bytes
        self.is_whole = is_whole
        self._skipping = False
        self._stored: dict[str, Any] | None = None
        self._line, self.size_bytes = _cut_back(file, size_bytes)
        if not is_whole:  # what ends the file is not what the next byte goes on with
            self._line = b""
        self.seen = asdict(reader.seen)

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
        self.seen = asdict(self._reader.seen)
        return heard

    def sever(self) -> None:
        """Something is missing here: what follows does not go on with the line that was begun."""
        self._line, self._skipping = b"", False

    def finish(self, at: datetime) -> Heard:
        """Nothing follows: a last line without an end is one, too."""
        heard, line = Heard(), self._line
        self._line = b""
        if line and not self._skipping:
            _add(heard, self._reader.read(line, at.timestamp()), at)
        self.seen = asdict(self._reader.seen)
        return heard

    def changes(self) -> dict[str, Any] | None:
        """What is known of the run, as it is to be stored; None when that is stored already."""
        if self.seen == self._stored:
            return None
        self._stored = self.seen
        return self._stored

    def _bounded(self, rest: bytes, at: datetime, heard: Heard) -> bytes:
        if self._skipping:
            return b""
        if len(rest) <= MAX_LINE_BYTES:
            return rest
        self._skipping = True
        heard.records.append(words(f"a line of more than {MAX_LINE_BYTES >> 20} MiB of the agent was not read", at))
        return b""

    def _keep(self, data: bytes, heard: Heard) -> None:
        """The output goes on when the file cannot."""
        if not self.is_whole:
            return
        room, fault = max(0, self._limit - self.size_bytes), None
        try:
            if len(data) > room:
                fault = f"it is larger than the limit of a log, {self._limit} bytes"
            _append(self._file, data[:room])
            self.size_bytes += min(len(data), room)
        except OSError as error:
            fault = str(error)
        if fault is not None:
            self.is_whole = False
            log.warning("stream of an agent not kept", extra={"file": str(self._file), "error": fault})
            heard.records.append(gap(f"from here on the agent's raw stream is not kept as an artifact: {fault}"))


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
    events = told.events[:MAX_LINE_EVENTS]
    heard.records += [NewRecord(Kind.EVENT, at, body={"type": one.type, **one.body}) for one in events]
    if len(told.events) > len(events):
        heard.records.append(words(f"{len(told.events) - len(events)} more parts of one line are not told", at))
    heard.asked += told.asked
    heard.withdrawn += told.withdrawn
    heard.shown += told.shown


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
