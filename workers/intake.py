"""What of the streams in a spool is output of the command: each byte once, whichever stream it came by (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

from workers.demux import Demultiplexer, Stream
from workers.engine_log import REPLACEMENT, NotTheSame, Tally, entry_bytes, replay
from workers.sandbox.port import LOG_ROTATES_BYTES
from workers.spool_streams import StreamKind, StreamStart

ROTATED = "output may be missing here: the engine's log, from which it was to be recovered, was rotated meanwhile"
DIFFERENT = "output may be missing here: the engine's log, from which it was to be recovered, is not what was stored"
SHORT = "output may be missing here: the engine's log ends before what is stored"
UNCOUNTED = "output may be missing here: it was not counted from its beginning, so it cannot be recovered"
NOT_TEXT = "bytes that are no UTF-8 text are shown as U+FFFD here: they were recovered from the engine's log"


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that the command printed."""

    stream: Stream
    data: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """Here something is, or may be, missing or changed."""

    message: str


Taken = Piece | Gap


class _Unusable(Exception):
    """The engine's log cannot be lined up with what is stored; the message is a gap's."""


@dataclass
class _One:
    """One of the two streams. `marked`: how much of the launcher's first line has come.

    `seen`: while the engine's log is read over what is stored already, how far that has come. `tail`: the last bytes
    taken from it, in which half a replacement character may stand.
    """

    tally: Tally = field(default_factory=Tally)
    marked: int = 0
    seen: Tally | None = None
    tail: bytes = b""


class Intake:
    """Feed the spool's bytes in order, `begin` where a stream begins. Can be stored between any two calls.

    `marker` is the launcher's first line on both streams; empty when the command was started without one.
    """

    def __init__(self, marker: bytes = b"") -> None:
        self.marker = marker
        self.segment = 0
        self.broken = False
        self._kind = StreamKind.ATTACH
        self._aligned = True
        self._gap = ""
        self._told_not_text = False
        self._log_bytes = 0
        self._rotates_at: int | None = None
        self._demultiplexer = Demultiplexer()
        self._streams: dict[Stream, _One] = {"stdout": _One(), "stderr": _One()}

    @property
    def countable(self) -> bool:
        """True while every byte since the beginning is accounted for: a lost stream can be recovered."""
        return bool(self.marker) and self._aligned

    def begin(self, start: StreamStart) -> list[Taken]:
        """From here on the bytes are another stream's."""
        self.segment, self._kind = start.segment, start.kind
        self._demultiplexer = Demultiplexer()
        self.broken = False
        for one in self._streams.values():
            one.seen, one.tail = None, b""
        if start.kind is StreamKind.ATTACH:
            self._aligned, self._gap = False, ""
            return [Gap(start.gap)] if start.gap else []
        if not self.countable:
            return [self._give_up(start.gap or UNCOUNTED)]
        self._gap = start.gap or self._gap
        self._log_bytes, self._rotates_at = 0, None
        for one in self._streams.values():
            one.seen = Tally()
        return []

    def take(self, data: bytes) -> list[Taken]:
        """What the bytes hold of the command's output. Raises `FramesDamaged`."""
        taken: list[Taken] = []
        if self.broken:
            return taken
        payloads = self._demultiplexer.feed(data)
        if self._kind is StreamKind.ATTACH:
            # A frame may be one line: neighbours are counted and passed on as one.
            for stream, neighbours in groupby(payloads, itemgetter(0)):
                taken += self._attached(stream, b"".join(payload for _, payload in neighbours))
            return taken
        try:
            for stream, payload in payloads:
                taken += self._logged(stream, payload)
        except _Unusable as why:
            taken.append(self._give_up(str(why)))
        return taken

    def finish(self) -> list[Taken]:
        """No stream follows: what was still held back, and what is known to be missing."""
        if self.broken:
            return []
        if any(one.seen and (one.tally.count or one.tally.partial) for one in self._streams.values()):
            return [self._give_up(SHORT)]
        begun = [(stream, one) for stream, one in self._streams.items() if 0 < one.marked < len(self.marker)]
        held: list[Taken] = [Piece(stream, self._not_the_marker(one)) for stream, one in begun]
        return [*held, Gap(self._gap)] if self._gap else held

    def _attached(self, stream: Stream, payload: bytes) -> list[Taken]:
        one = self._streams[stream]
        if self.countable:
            one.tally.add(payload)
        return self._printed(stream, payload)

    def _logged(self, stream: Stream, payload: bytes) -> list[Taken]:
        one = self._streams[stream]
        self._log_bytes += entry_bytes(payload)
        if one.seen is not None:
            new = self._read_over(one, one.seen, payload)
            read_over = payload if new is None else payload[: len(payload) - len(new)]
            one.tail = (one.tail + read_over)[1 - len(REPLACEMENT) :]  # a replaced byte may be cut by what is known
            if new is None:
                return []
            one.seen, payload = None, new
        if not payload:
            return []
        self._look_for_rotation()
        one.tally.add_logged(payload)
        return [*self._gaps_before(one, payload), *self._printed(stream, payload)]

    def _read_over(self, one: _One, seen: Tally, payload: bytes) -> bytes | None:
        due = self.marker[seen.count : seen.count + len(payload)]
        if not payload.startswith(due):
            raise _Unusable(ROTATED)
        try:
            return replay(seen, one.tally, payload)
        except NotTheSame:
            raise _Unusable(DIFFERENT) from None

    def _look_for_rotation(self) -> None:
        """A log that is followed loses what was written across two rotations, without a word (finding 5)."""
        if self._kind is StreamKind.WHOLE_LOG:
            return
        if self._rotates_at is None:
            self._rotates_at = (self._log_bytes // LOG_ROTATES_BYTES + 1) * LOG_ROTATES_BYTES
        if self._log_bytes >= self._rotates_at:
            raise _Unusable(ROTATED)

    def _gaps_before(self, one: _One, payload: bytes) -> list[Taken]:
        gaps: list[Taken] = []
        if self._gap:
            gaps.append(Gap(self._gap))
            self._gap = ""
        ahead = one.tail + payload
        one.tail = ahead[1 - len(REPLACEMENT) :]
        if REPLACEMENT in ahead and not self._told_not_text:
            gaps.append(Gap(NOT_TEXT))
            self._told_not_text = True
        return gaps

    def _printed(self, stream: Stream, payload: bytes) -> list[Taken]:
        """Without the launcher's first line: only at the very beginning, for the command may print the same."""
        one = self._streams[stream]
        due = self.marker[one.marked :]
        if due:
            length = min(len(due), len(payload))
            if payload[:length] == due[:length]:
                one.marked += length
                payload = payload[length:]
            elif self._kind is StreamKind.ATTACH:
                payload = self._not_the_marker(one) + payload
            else:
                raise _Unusable(ROTATED)
        return [Piece(stream, payload)] if payload else []

    def _not_the_marker(self, one: _One) -> bytes:
        """Somebody was faster than the launcher: all of it is output, and the log's beginning cannot be told."""
        held, one.marked = self.marker[: one.marked], len(self.marker)
        self._aligned = False
        return held

    def _give_up(self, message: str) -> Gap:
        self.broken, self._aligned, self._gap = True, False, ""
        return Gap(message)

    def dump(self) -> dict[str, Any]:
        return {
            "frame": self._demultiplexer.state(),
            "segment": self.segment,
            "kind": self._kind.value,
            "broken": self.broken,
            "aligned": self._aligned,
            "gap": self._gap,
            "not_text": self._told_not_text,
            "log": [self._log_bytes, self._rotates_at],
            "streams": {
                name: [one.marked, one.tally.dump(), one.seen and one.seen.dump(), one.tail.hex()]
                for name, one in self._streams.items()
            },
        }

    @classmethod
    def load(cls, stored: dict[str, Any]) -> Intake:
        """Continue where `dump` was taken; also what a version without recovery stored (its frame only)."""
        intake = cls()
        intake._demultiplexer = Demultiplexer.from_state(stored["frame"])
        if "streams" not in stored:
            intake._aligned = False
            return intake
        intake.segment, intake._kind = stored["segment"], StreamKind(stored["kind"])
        intake.broken, intake._aligned = stored["broken"], stored["aligned"]
        intake._gap, intake._told_not_text = stored["gap"], stored["not_text"]
        intake._log_bytes, intake._rotates_at = stored["log"]
        intake._streams = {
            name: _One(Tally.load(tally), marked, Tally.load(seen) if seen else None, bytes.fromhex(tail))
            for name, (marked, tally, seen, tail) in stored["streams"].items()
        }
        return intake
