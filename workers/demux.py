"""Docker's multiplexed attach stream, taken apart: which bytes are stdout's and which stderr's.

A frame is `stream (1 byte), 0, 0, 0, length (uint32, big-endian)`, then the payload. A spool's chunks may cut
frames anywhere, so what is in progress can be stored beside the spool's offset and continued later.
"""

from __future__ import annotations

import struct
from typing import Final, Literal

Stream = Literal["stdout", "stderr"]

_HEADER = struct.Struct(">B3sI")
# 0 is stdin echoed back, 3 the engine's own error text: both belong where a reader would see them.
_STREAMS: Final[dict[int, Stream]] = {0: "stdout", 1: "stdout", 2: "stderr", 3: "stderr"}
_RESUMED: Final[dict[str, Stream]] = {"stdout": "stdout", "stderr": "stderr"}


class FramesDamaged(ValueError):
    """The bytes are not frames: a damaged spool, a wrong resume state, or a TTY's stream (which has none)."""


class Demultiplexer:
    """Feed raw bytes in any cut, get `(stream, payload)` in order. No payload is ever held back.

    Not thread-safe. After a FramesDamaged the object is unusable.
    """

    def __init__(self) -> None:
        self._stream: Stream = "stdout"
        self._remaining = 0
        self._header = b""

    def feed(self, data: bytes) -> list[tuple[Stream, bytes]]:
        """The payloads that `data` completes or continues; neighbours of one stream are not joined.

        Raises FramesDamaged at a header that no engine sends.
        """
        pieces: list[tuple[Stream, bytes]] = []
        at = 0
        if self._header:
            data, self._header = self._header + data, b""
        size = len(data)
        while at < size:
            if self._remaining == 0:
                if size - at < _HEADER.size:
                    self._header = data[at:]
                    break
                self._begin(data, at)
                at += _HEADER.size
            piece = data[at : at + self._remaining]
            if piece:
                pieces.append((self._stream, piece))
                self._remaining -= len(piece)
                at += len(piece)
        return pieces

    def state(self) -> str:
        """What is in progress, at most 32 characters of ASCII; empty exactly at a frame boundary."""
        if self._remaining:
            return f"{self._stream}:{self._remaining}"
        return f"header:{self._header.hex()}" if self._header else ""

    @classmethod
    def from_state(cls, state: str) -> Demultiplexer:
        """Continue where `state()` was taken. Raises FramesDamaged when `state` is none of ours."""
        demultiplexer = cls()
        kind, _, value = state.partition(":")
        try:
            if kind == "header":
                demultiplexer._header = bytes.fromhex(value)
            elif state:
                demultiplexer._stream, demultiplexer._remaining = _RESUMED[kind], int(value)
        except (KeyError, ValueError) as error:
            raise FramesDamaged(
                f"cannot resume a log stream from state {state!r}: {error!r}; begin at a frame with ''"
            ) from error
        return demultiplexer

    def _begin(self, data: bytes, at: int) -> None:
        number, zeros, self._remaining = _HEADER.unpack_from(data, at)
        if number not in _STREAMS or zeros != b"\0\0\0":
            raise FramesDamaged(
                f"attach stream: {data[at : at + _HEADER.size].hex()} is no frame header: the spool is "
                f"damaged, the resume state is another offset's, or the container has a TTY; "
                f"recover from the engine's log"
            )
        self._stream = _STREAMS[number]
