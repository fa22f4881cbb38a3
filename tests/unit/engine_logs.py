"""What the engine makes of the output of a command: its attach stream, and its json-file log (Engine 20.10)."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence

from workers.demux import Demultiplexer, Stream

Said = Sequence[tuple[Stream, bytes]]
PIECE = 16 << 10
NUMBER = {"stdout": 1, "stderr": 2}
TEXT = re.compile(
    rb"[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
    rb"|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
)


def frame(stream: str, data: bytes) -> bytes:
    return struct.pack(">B3xI", NUMBER[stream], len(data)) + data


def attached(said: Said) -> bytes:
    """Every write in a frame of its own."""
    return b"".join(frame(stream, data) for stream, data in said)


def entry(piece: bytes) -> bytes:
    """Byte by byte as Go's decoder does it: one replacement character for each byte that is no character's."""
    out, at = b"", 0
    while at < len(piece):
        found = TEXT.match(piece, at)
        out += found.group() if found else "\ufffd".encode()
        at = found.end() if found else at + 1
    return out


def logged(said: Said, *, ended: bool) -> bytes:
    """The log's frames: an entry for each line or 16 KiB of one; what is unfinished only when the command ended."""
    waiting = {"stdout": b"", "stderr": b""}
    frames = b""
    for stream, data in said:
        waiting[stream] += data
        while waiting[stream]:
            newline = waiting[stream].find(b"\n", 0, PIECE)
            if newline < 0 and len(waiting[stream]) < PIECE:
                break
            end = newline + 1 or PIECE
            frames += frame(stream, entry(waiting[stream][:end]))
            waiting[stream] = waiting[stream][end:]
    if ended:
        frames += b"".join(frame(stream, entry(rest)) for stream, rest in waiting.items() if rest)
    return frames


def printed(frames: bytes, stream: str) -> bytes:
    return b"".join(data for name, data in Demultiplexer().feed(frames) if name == stream)
