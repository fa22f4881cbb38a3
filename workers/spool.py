"""The spool of one sandbox: what its attach stream said, on disk, until the journal has it.

A spool is a directory of segment files `00000000.seg`, `00000001.seg`, … A segment is a row of chunks, each
`arrival time (float64, Unix seconds), length (uint32)`, both little-endian, then that many raw bytes exactly
as the engine sent them. A file `eof` says that no chunk will follow; its text says why (see `END_REASONS`).

The keeper writes (`SpoolWriter`), the worker reads and deletes (`SpoolReader`); they share nothing but the
directory. Either may die at any instant: only a whole chunk counts, and an offset is the end of one.

Imported by the keeper: standard library only, and little of it.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

HEADER = struct.Struct("<dI")
CHUNK_MAX_BYTES = 256 * 1024
SEGMENT_BYTES = 8 * 1024 * 1024
LIMIT_DEFAULT_BYTES = 256 * 1024 * 1024
LIMIT_MIN_BYTES = 64 * 1024
END_MARKER = "eof"

END_REASONS = {
    "ended": "the engine closed the stream, or its sandbox was stopped before it said anything: everything is here",
    "shut": "the worker asked to shut the stream; everything that had arrived by then is here",
    "cut": "the stream was shut while it could not be read (spool or disk full): bytes may be missing",
}


class SpoolDamaged(RuntimeError):
    """The segment that an offset names is not in the spool, although others are."""


class SpoolOffset(NamedTuple):
    """A place between two chunks: segment number, and byte within that segment's file."""

    segment: int = 0
    byte: int = 0

    def __str__(self) -> str:
        return f"{self.segment}:{self.byte}"

    @classmethod
    def parse(cls, text: str) -> SpoolOffset:
        """Read what `str()` wrote. Raises ValueError when `text` is anything else."""
        segment, _, byte = text.partition(":")
        return cls(int(segment), int(byte))


SPOOL_START = SpoolOffset()


class Chunk(NamedTuple):
    """Bytes of one read of the attach stream; `end` is the offset to store once they are safe elsewhere."""

    arrived_at: float
    data: bytes
    end: SpoolOffset


def segment_path(directory: Path, number: int) -> Path:
    """The file of segment `number`."""
    return directory / f"{number:08d}.seg"


def segment_sizes(directory: Path) -> dict[int, int]:
    """Number → bytes on disk of the segments that exist now, in order. Raises OSError when unreadable."""
    sizes = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            stem, dot, suffix = entry.name.partition(".")
            if dot and suffix == "seg" and stem.isdecimal():
                with suppress(FileNotFoundError):  # the reader deletes while we look
                    sizes[int(stem)] = entry.stat().st_size
    return dict(sorted(sizes.items()))


class SpoolWriter:
    """Appends chunks. It never raises on a full or failing disk: it keeps the chunk, and `retry` tries again.

    Not thread-safe. A directory that already holds segments is continued with a new one, so what an earlier
    writer left half-written stays behind, and an `eof` marker of it is taken away.
    """

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        """Make `directory` (0700) if needed. Raises OSError when that fails, ValueError for a tiny limit."""
        if limit_bytes < LIMIT_MIN_BYTES:
            raise ValueError(
                f"spool {directory}: a limit of {limit_bytes} bytes is too small to hold several segments; "
                f"give at least {LIMIT_MIN_BYTES}"
            )
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / END_MARKER).unlink(missing_ok=True)
        self.directory = directory
        self.bytes_written = 0
        self.stalled: str | None = None
        self.ended: str | None = None
        self._limit_bytes = limit_bytes
        # A quarter of the limit at most: the reader can only free whole segments before its own, so the one
        # it stands in must never fill the spool by itself.
        self._segment_bytes = min(SEGMENT_BYTES, limit_bytes // 4)
        self.chunk_bytes = min(CHUNK_MAX_BYTES, self._segment_bytes - HEADER.size)
        sizes = segment_sizes(directory)
        self._used_bytes = sum(sizes.values())
        self._number = max(sizes, default=-1)
        self._fd = -1
        self._size = 0
        self._pending: bytes | None = None
        self._reason: str | None = None

    def room_bytes(self) -> int:
        """How many bytes the next chunk may hold; 0 at the limit, and while a chunk waits for the disk."""
        if self._pending is not None:
            return 0
        if self._limit_bytes - self._used_bytes <= HEADER.size:
            with suppress(OSError):  # unreadable now: stay full, look again at the next call
                self._used_bytes = sum(segment_sizes(self.directory).values())
        return max(0, min(self.chunk_bytes, self._limit_bytes - self._used_bytes - HEADER.size))

    def append(self, frame: memoryview, arrived_at: float) -> bool:
        """Write one chunk: `frame` is room for the header, then 1 to `chunk_bytes` bytes of data.

        False: the disk refused; the chunk is kept and `stalled` says why. Call `retry` until it is True.
        """
        HEADER.pack_into(frame, 0, arrived_at, len(frame) - HEADER.size)
        try:
            self._write(frame)
        except OSError as error:
            self._pending = bytes(frame)
            self.stalled = str(error)
            return False
        return True

    def finish(self, reason: str) -> bool:
        """Close, and leave the end marker once everything kept is written. False: `retry` must finish it."""
        self._reason = reason
        return self.retry()

    def retry(self) -> bool:
        """Write what the disk refused before. True when nothing waits any more."""
        try:
            if self._pending is not None:
                self._write(memoryview(self._pending))
                self._pending = None
            if self._reason is not None and self.ended is None:
                self._mark_end(self._reason)
        except OSError as error:
            self.stalled = str(error)
            return False
        self.stalled = None
        return True

    def close(self) -> None:
        """Close the segment without a marker; a kept chunk is given up. Harmless when repeated."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, frame: memoryview) -> None:
        if self._fd < 0 or self._size + len(frame) > self._segment_bytes:
            self._open_next()
        done = 0
        while done < len(frame):
            # At an explicit offset: after a partial write the retry overwrites its bytes with themselves.
            done += os.pwrite(self._fd, frame[done:], self._size + done)
        self._size += len(frame)
        self._used_bytes += len(frame)
        self.bytes_written += len(frame) - HEADER.size

    def _open_next(self) -> None:
        path = segment_path(self.directory, self._number + 1)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.close()
        self._fd, self._size = fd, 0
        self._number += 1

    def _mark_end(self, reason: str) -> None:
        self.close()
        temporary = self.directory / f".{END_MARKER}.tmp"
        temporary.write_text(reason)
        temporary.replace(self.directory / END_MARKER)
        self.ended = reason


class SpoolReader:
    """Reads a spool from an offset on, whole chunks only. Not thread-safe; close it, or use it in `with`.

    `offset` is where the next `read` begins. `torn_bytes` counts what was stepped over because a writer died
    in the middle of a chunk: more than 0 means bytes are missing, and the caller owes the log a `gap`.
    """

    def __init__(self, directory: Path, offset: SpoolOffset = SPOOL_START) -> None:
        self.directory = directory
        self.offset = offset
        self.torn_bytes = 0
        self._fd = -1
        self._fd_segment = -1
        self._deleted_before = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def read(self, max_bytes: int = 1024 * 1024) -> list[Chunk]:
        """The next whole chunks, together about `max_bytes`, at least one if there is one; `offset` moves on.

        Empty: nothing new yet, or the end (ask `at_end`). Raises SpoolDamaged, OSError.
        """
        chunks: list[Chunk] = []
        left = max_bytes
        while left > 0:
            found = self._chunks_here(left)
            if not found:
                following = self._following_segment()
                if following is None:
                    break
                # Only now is this segment final; what was written between the first look and now is in it.
                found = self._chunks_here(left)
                if not found:
                    self._step_to(following)
                    continue
            chunks += found
            left -= sum(len(chunk.data) for chunk in found)
            self.offset = found[-1].end
        return chunks

    def at_end(self) -> bool:
        """True when the end marker stands and every whole chunk was read. Raises as `read` does."""
        # The marker first: chunks are written before it, so what is not seen after it does not exist.
        if self.end_reason() is None:
            return False
        return not self._chunks_here(1) and self._following_segment() is None

    def end_reason(self) -> str | None:
        """Why no more will be written (a key of `END_REASONS`); None while more may come."""
        try:
            return (self.directory / END_MARKER).read_text()
        except FileNotFoundError:
            return None

    def delete_before(self, offset: SpoolOffset) -> None:
        """Delete the segments wholly before `offset`: this is what lets a full spool take more."""
        if offset.segment <= self._deleted_before:
            return
        for number in segment_sizes(self.directory):
            if number < offset.segment:
                segment_path(self.directory, number).unlink(missing_ok=True)
        self._deleted_before = offset.segment

    def close(self) -> None:
        """Close the open segment; reading again opens it anew."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _chunks_here(self, max_bytes: int) -> list[Chunk]:
        """The whole chunks from `offset` on in its own segment."""
        if not self._open_segment():
            return []
        segment, start = self.offset
        block = os.pread(self._fd, max_bytes + HEADER.size, start)
        if len(block) >= HEADER.size:
            first = HEADER.size + HEADER.unpack_from(block)[1]
            if len(block) < first <= HEADER.size + CHUNK_MAX_BYTES:
                block = os.pread(self._fd, first, start)
        chunks, at = [], 0
        while at + HEADER.size <= len(block):
            arrived_at, length = HEADER.unpack_from(block, at)
            end = at + HEADER.size + length
            if end > len(block) or not 0 < length <= CHUNK_MAX_BYTES:
                break
            chunks.append(Chunk(arrived_at, block[at + HEADER.size : end], SpoolOffset(segment, start + end)))
            at = end
        return chunks

    def _open_segment(self) -> bool:
        if self._fd >= 0 and self._fd_segment == self.offset.segment:
            return True
        self.close()
        with suppress(FileNotFoundError):
            self._fd = os.open(segment_path(self.directory, self.offset.segment), os.O_RDONLY | os.O_CLOEXEC)
            self._fd_segment = self.offset.segment
        return self._fd >= 0

    def _following_segment(self) -> int | None:
        try:
            numbers = segment_sizes(self.directory)
        except FileNotFoundError:
            return None
        if numbers and self.offset.segment not in numbers:
            raise SpoolDamaged(
                f"spool {self.directory}: cannot continue at {self.offset}: its segment is missing while "
                f"{min(numbers)} to {max(numbers)} exist; record a gap and read on from {min(numbers)}:0"
            )
        return next((number for number in numbers if number > self.offset.segment), None)

    def _step_to(self, segment: int) -> None:
        self.torn_bytes += os.fstat(self._fd).st_size - self.offset.byte
        self.offset = SpoolOffset(segment, 0)
