"""What the engine's own log holds of a stream: how a recovered log is lined up with what is stored (pure).

The json-file log is not the stream itself. It keeps text: a line is cut into pieces of 16 KiB, and each byte of a
piece that is no part of a UTF-8 character becomes U+FFFD. So a stream is counted in what the log makes of it, and
with a checksum: lined up by number alone, a log that lacks anything would be continued wrongly without a sign.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from orchestrator.journal import whole_characters

PIECE_BYTES = 16 << 10
"""The engine's copier cuts longer lines (moby, daemon/logger/copier.go)."""
REPLACEMENT = "\ufffd".encode()

_REPLACED = {0xDC00 + byte: 0xFFFD for byte in range(0x80, 0x100)}
# Neither escaped as ASCII, nor the first byte of U+2028, U+2029 or U+FFFD.
_PLAIN = bytes(set(range(0x20, 0x100)) - set(b'"\\<>&\x7f\xe2\xef'))
_ENTRY_BYTES = 72
_ESCAPE_BYTES = 5


def as_logged(piece: bytes) -> bytes:
    """A piece as the engine's log gives it back: one replacement character for each byte that is not text."""
    try:
        piece.decode()
    except UnicodeDecodeError:
        return piece.decode("utf-8", "surrogateescape").translate(_REPLACED).encode()
    return piece


def entry_bytes(logged: bytes) -> int:
    """At most so many bytes does an entry take in the engine's log file: JSON, its escapes, stream and time."""
    return len(logged) + _ENTRY_BYTES + _ESCAPE_BYTES * len(logged.translate(None, _PLAIN))


@dataclass
class Tally:
    """How much of one stream was taken, as the engine's log has it.

    `column`: bytes since the line, or its present piece, began. `partial`: the beginning of a character whose rest
    has not come, so that it is not known yet what the log makes of it.
    """

    count: int = 0
    checksum: int = 0
    column: int = 0
    partial: bytes = b""

    def add(self, data: bytes) -> None:
        """Count bytes of the stream as the command printed them, in any cut."""
        if not self.partial and data.isascii():
            self.add_logged(data)
            newline = data.rfind(b"\n")
            self.column = (len(data) - newline - 1 + (self.column if newline < 0 else 0)) % PIECE_BYTES
            return
        data, self.partial = self.partial + data, b""
        at = 0
        while (end := self._closed_piece(data, at)) is not None:
            self.add_logged(as_logged(data[at:end]))
            at, self.column = end, 0
        rest = data[at:]
        whole = whole_characters(rest, len(rest))
        self.add_logged(as_logged(rest[:whole]))
        self.column += whole
        self.partial = rest[whole:]

    def add_logged(self, logged: bytes) -> None:
        """Count bytes as the engine's log gives them."""
        self.count += len(logged)
        self.checksum = zlib.crc32(logged, self.checksum)

    def _closed_piece(self, data: bytes, at: int) -> int | None:
        """Where lines or a piece beginning at `at` are closed: nothing that follows changes them any more."""
        limit = at + PIECE_BYTES - self.column
        newline = data.rfind(b"\n", at, limit)
        if newline >= 0:
            return newline + 1
        return limit if len(data) >= limit else None

    def dump(self) -> list[int | str]:
        return [self.count, self.checksum, self.column, self.partial.hex()]

    @classmethod
    def load(cls, stored: list[int | str]) -> Tally:
        count, checksum, column, partial = stored
        return cls(int(count), int(checksum), int(column), bytes.fromhex(str(partial)))


class NotTheSame(Exception):
    """The engine's log is not what was taken from the stream."""


def replay(seen: Tally, known: Tally, logged: bytes) -> bytes | None:
    """Read over what is `known` already; `seen` is how far that has come. None: there is more to read over.

    When it is over: what of `logged` is new. Raises `NotTheSame`.
    """
    old = logged[: known.count - seen.count]
    seen.add_logged(old)
    if seen.count < known.count:
        return None
    if seen.checksum != known.checksum:
        raise NotTheSame
    rest = seen.partial + logged[len(old) :]
    if not known.partial:
        return rest
    # A character was cut in two: the first part is stored, the log has all of it, or knows that it was none.
    replaced = REPLACEMENT * len(known.partial)
    for form in (known.partial, replaced):
        if rest.startswith(form):
            known.add_logged(form)
            known.partial = b""
            return rest[len(form) :]
        if form.startswith(rest):
            seen.partial = rest
            return None
    raise NotTheSame
