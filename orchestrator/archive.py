"""The form of archived output: rows of a task's journal as one compressed object, a segment.

A segment is a gzip file. Unpacked, it begins with a line that names format, version, task and the number of rows;
each row is a line of JSON (its place in the journal, attempt, time, stream, size) and the `size` bytes of output,
exactly as they were in the journal, and a line end. So `zcat` shows an operator what is in it, without the product.

A segment's key names what is inside (`SegmentName`): a reader knows which one to open before it opens any.
The checksum is of the unpacked bytes, so another gzip library that packs the same rows again replaces an object by an
equal one.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from orchestrator.models import Kind, Record
from orchestrator.store.tables import EPOCH

FORMAT = "sandbox-log-segment"
VERSION = 1
MAX_BYTES = 8 << 20
"""Of a segment, unpacked: what one reader holds in memory at a time."""
MAX_ROWS = 1 << 14
"""Of a segment: its rows leave the store in one transaction, for which all other writers of SQLite wait."""
PACKED_EXTRA_BYTES = 64 << 10
"""How much larger than its content a segment may be: gzip adds 5 bytes for each 32 KiB it cannot make smaller."""
HEAD_BYTES = 192
"""More than any row's line of JSON and what separates it from the next."""
_LEVEL = 6  # logs shrink to a tenth at 50 MB/s; level 9 takes three times as long for 2 % less
_MICROSECOND = timedelta(microseconds=1)
_NAME = re.compile(r"(\d+)-(\d+)\.(\d+)-(\d+)\.(-?\d+)\.v1\.gz")


class BrokenSegment(Exception):
    """The bytes are not the segment that was stored; the message says what is wrong with them."""


@dataclass(frozen=True, slots=True)
class SegmentName:
    """What a segment's key tells: its first and last sequence number, the attempts in it, its newest instant."""

    first_seq: int
    last_seq: int
    first_attempt: int
    last_attempt: int
    newest: datetime

    def __str__(self) -> str:
        newest = (self.newest - EPOCH) // _MICROSECOND
        return f"{self.first_seq}-{self.last_seq}.{self.first_attempt}-{self.last_attempt}.{newest}.v1.gz"

    @classmethod
    def of_key(cls, key: str) -> SegmentName:
        """Read the last part of a key; raise `BrokenSegment` when it is no segment's."""
        found = _NAME.fullmatch(key.rpartition("/")[2])
        if found is None:
            raise BrokenSegment(f"{key} is no name of a segment of format {VERSION}; start the version that wrote it")
        first_seq, last_seq, first_attempt, last_attempt, newest = map(int, found.groups())
        return cls(first_seq, last_seq, first_attempt, last_attempt, EPOCH + newest * _MICROSECOND)

    def holds(self, attempt: int) -> bool:
        """False when nothing of this attempt is inside."""
        return self.first_attempt <= attempt <= self.last_attempt


@dataclass(frozen=True, slots=True)
class Packed:
    """A segment on its way into the storage. `size_bytes` and `sha256` are of the unpacked bytes."""

    name: SegmentName
    data: bytes
    size_bytes: int
    sha256: str


def pack(task_id: str, rows: Sequence[Record]) -> Packed:
    """Pack rows of output of one task, at least one, in their order."""
    head = {"format": FORMAT, "version": VERSION, "task_id": task_id, "rows": len(rows)}
    raw = b"".join([_line(head), *(part for row in rows for part in _parts(row))])
    attempts = [row.attempt for row in rows]
    newest = max(row.at for row in rows)
    name = SegmentName(rows[0].first_seq, rows[-1].last_seq, min(attempts), max(attempts), newest)
    # Without a time in it the same rows give the same bytes: who packs them again changes nothing.
    return Packed(name, gzip.compress(raw, _LEVEL, mtime=0), len(raw), hashlib.sha256(raw).hexdigest())


def _parts(row: Record) -> Iterator[bytes]:
    data = row.data or b""
    head: dict[str, Any] = {
        "first_seq": row.first_seq,
        "last_seq": row.last_seq,
        "attempt": row.attempt,
        "at": (row.at - EPOCH) // _MICROSECOND,
        "stream": row.stream,
        "position": row.position,
        "size": len(data),
    }
    if row.body:
        head["body"] = row.body
    yield _line(head)
    yield data
    yield b"\n"


def _line(head: dict[str, Any]) -> bytes:
    return json.dumps(head, separators=(",", ":")).encode() + b"\n"


class SegmentRows:
    """The rows of one segment, oldest first. Thread-safe: nothing changes once it is made."""

    def __init__(self, task_id: str, raw: bytes) -> None:
        """`raw` is what `unpack` gave; raise `BrokenSegment` when it is of another task, or newer than we are."""
        self._task_id, self._raw = task_id, raw
        self._starts, self._last_seqs = array("q"), array("q")
        try:
            self._read()
        except (ValueError, KeyError, TypeError) as error:
            raise BrokenSegment(f"its rows cannot be read: {error}") from error

    def _read(self) -> None:
        head, start = self._head(0)
        found = head["format"], head["version"], head["task_id"]
        if found != (FORMAT, VERSION, self._task_id):
            raise BrokenSegment(f"it holds {found[0]} {found[1]} of task {found[2]}, which was not expected there")
        while start < len(self._raw):
            row, behind = self._head(start)
            self._starts.append(start)
            self._last_seqs.append(row["last_seq"])
            start = behind + row["size"] + 1
        if start != len(self._raw) or not len(self._starts) == head["rows"] > 0:
            raise BrokenSegment(f"it has {len(self._starts)} of {head['rows']} rows")

    @property
    def first_seq(self) -> int:
        return int(self._head(self._starts[0])[0]["first_seq"])

    @property
    def last_seq(self) -> int:
        return self._last_seqs[-1]

    def _head(self, start: int) -> tuple[dict[str, Any], int]:
        """The JSON of a line, and the place behind it."""
        end = self._raw.index(b"\n", start)
        return json.loads(self._raw[start:end]), end + 1

    def _record(self, index: int) -> Record:
        head, start = self._head(self._starts[index])
        return Record(
            position=head["position"],
            task_id=self._task_id,
            attempt=head["attempt"],
            first_seq=head["first_seq"],
            last_seq=head["last_seq"],
            at=EPOCH + head["at"] * _MICROSECOND,
            kind=Kind.OUTPUT,
            stream=head["stream"],
            body=head.get("body", {}),
            data=self._raw[start : start + head["size"]],
        )

    def after(self, cursor: int) -> Iterator[Record]:
        """Rows that hold anything behind `cursor`, oldest first."""
        return map(self._record, range(bisect_right(self._last_seqs, cursor), len(self._starts)))

    def before(self, seq: int | None) -> Iterator[Record]:
        """Rows that end before `seq` (None: all), newest first."""
        end = len(self._starts) if seq is None else bisect_left(self._last_seqs, seq)
        return map(self._record, range(end - 1, -1, -1))


def unpack(data: bytes, *, size_bytes: int, sha256: str) -> bytes:
    """The unpacked bytes of a segment; raise `BrokenSegment` unless they have this size and checksum."""
    try:
        with gzip.open(io.BytesIO(data)) as packed:
            raw = packed.read(size_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BrokenSegment(f"it cannot be unpacked: {error}") from error
    if len(raw) != size_bytes or hashlib.sha256(raw).hexdigest() != sha256:
        raise BrokenSegment("its checksum is not the one it was stored with")
    return raw
