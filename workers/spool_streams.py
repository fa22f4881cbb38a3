"""Which streams of a sandbox lie in its spool, one behind the other.

The first is the attach stream that was opened before the start. Each further one begins in a segment of its own,
named in the file `streams` before the keeper writes to it: from there on frames begin anew, and the engine's log
begins at its very beginning.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from workers.spool import segment_sizes

STREAMS = "streams"


class StreamKind(StrEnum):
    """Where the bytes come from."""

    ATTACH = "attach"
    """What the sandbox says from the moment of the attach on."""
    LOG = "log"
    """The engine's log from its beginning on, followed."""
    WHOLE_LOG = "whole_log"
    """The engine's log of a sandbox that has ended."""


@dataclass(frozen=True, slots=True)
class StreamStart:
    """A stream that begins with `segment`. `gap` is what a reader of the log must be told; '' for nothing.

    That of an attach stream stands at its beginning, that of a log before what is new in it, or at the end.
    """

    segment: int = 0
    kind: StreamKind = StreamKind.ATTACH
    gap: str = ""


def begin(spool: Path, kind: StreamKind, gap: str) -> None:
    """Note that the next stream begins. Nobody may be writing to the spool. Raises OSError."""
    segment = max(segment_sizes(spool), default=-1) + 1
    known = [start for start in _read(spool) if start.segment < segment]
    temporary = spool / f".{STREAMS}.tmp"
    temporary.write_text(json.dumps([asdict(start) for start in (*known, StreamStart(segment, kind, gap))]))
    temporary.replace(spool / STREAMS)


def stream_at(spool: Path, segment: int) -> StreamStart:
    """The stream to which a segment belongs."""
    starts = [start for start in _read(spool) if start.segment <= segment]
    return starts[-1] if starts else StreamStart()


def last_stream(spool: Path) -> StreamStart:
    """The stream that was opened last."""
    starts = _read(spool)
    return starts[-1] if starts else StreamStart()


def _read(spool: Path) -> list[StreamStart]:
    try:
        stored = json.loads((spool / STREAMS).read_text())
    except FileNotFoundError:
        return []
    return [StreamStart(one["segment"], StreamKind(one["kind"]), one["gap"]) for one in stored]
