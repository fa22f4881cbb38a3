"""Takes secrets out of text and of byte streams: each stretch of what must not be shown becomes `***` (pure).

A value is masked as it is, line by line, URL-encoded, JSON-escaped and in base64 (`redaction_patterns.py`). Whoever
has a secret can write it in a thousand other ways: this keeps a secret from being shown by accident, not by intent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from workers.redaction_index import PatternIndex
from workers.redaction_patterns import FORMS, SHORTEST_BYTES, Pattern, patterns

MASK = "***"
_MASK = MASK.encode()
_LINE_BREAKS = re.compile(rb"\r?\n|\r$")

Span = tuple[int, int]


class OtherForms(ValueError):
    """A stored state was made by a version that looked for other patterns."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a stream holds back, told without a byte of it: the beginning of a pattern, and where lines break in it.

    `masked`: so many of its first bytes belong to what was masked already.
    """

    pattern: int
    length: int
    breaks: tuple[tuple[int, str], ...]
    masked: int

    def dump(self) -> list[object]:
        return [FORMS, self.pattern, self.length, [list(one) for one in self.breaks], self.masked]

    @classmethod
    def load(cls, stored: Sequence[object]) -> Held:
        """Raises `OtherForms`."""
        forms, pattern, length, breaks, masked = stored
        if forms != FORMS:
            raise OtherForms("a worker of another version held back the beginning of what may be a secret")
        return cls(pattern, length, tuple((at, text) for at, text in breaks), masked)  # type: ignore[arg-type, attr-defined]


class Redactor:
    """Knows the values of one attempt. Thread-safe, and immutable; shows nothing of them when it is printed."""

    def __init__(self, values: Sequence[bytes]) -> None:
        self.values = tuple(values)
        self.patterns = patterns(self.values)
        self._index = PatternIndex(self.patterns)

    def __repr__(self) -> str:
        return f"<Redactor of {len(self.values)} values>"

    def redact(self, text: str) -> str:
        """The text without secrets; its last bytes too when they begin one."""
        if not self.patterns or not text:
            return text
        data = text.encode("utf-8", "surrogatepass")
        stream = RedactedStream(self)
        shown = stream.feed(data) + stream.finish()
        return text if shown == data else shown.decode("utf-8", "replace")

    def spans(self, data: bytes) -> list[Span]:
        """Where secrets stand in `data`, in order; those that overlap are one."""
        found = [span for one in self._index.suspects(data) for span in _occurrences(data, one)]
        return _merged(found) if found else found

    def begins_at(self, data: bytes) -> tuple[int, int]:
        """The first place from which `data` to its end may be the beginning of a secret, and that pattern's number.

        The length of `data` and -1 when there is no such place.
        """
        first, number = len(data), -1
        for at, begun in self._index.beginnings(data):
            if at >= first:
                continue
            suffix = data[at:]
            known = next((one for one in begun if self.patterns[one].begun_by(suffix)), None)
            if known is not None:
                first, number = at, known
        return first, number


NOTHING_SECRET = Redactor(())


class RedactedStream:
    """Feed bytes in any cut: what comes out, put together, does not depend on how they were cut.

    Held back is only the longest end that may begin a secret; no ordinary line ends so. Not thread-safe.
    """

    def __init__(self, redactor: Redactor, held: Held | None = None) -> None:
        self._redactor = redactor
        self._held = b""
        self._masked = 0
        self._pattern = -1
        if held is not None:
            self._restore(held)

    def feed(self, data: bytes) -> bytes:
        """What may be shown by now."""
        if self._held:
            data = self._held + data
        end, self._pattern = self._redactor.begins_at(data)
        shown = self._shown(data, self._redactor.spans(data), end)
        self._held = data[end:]
        return shown

    def finish(self) -> bytes:
        """What was held back: nothing follows. The first bytes of a secret are masked like it, one to three shown."""
        data, self._held = self._held, b""
        spans = [(0, len(data))] if len(data) >= SHORTEST_BYTES else self._redactor.spans(data)
        return self._shown(data, spans, len(data))

    def sever(self) -> bytes:
        """Mask what is held back now: it may be the beginning of a secret whose rest is lost. It stays held, masked,
        so that its rest is masked as well if that does follow. Fewer bytes than a secret has are shown.
        """
        if len(self._held) < SHORTEST_BYTES or self._masked >= len(self._held):
            return b""
        begun, self._masked = self._masked > 0, len(self._held)
        return b"" if begun else _MASK

    def held(self) -> Held | None:
        """What is to be stored, for a successor to go on exactly here."""
        if not self._held:
            return None
        breaks, taken = [], 0
        for found in _LINE_BREAKS.finditer(self._held) if self._redactor.patterns[self._pattern].wrapped else ():
            breaks.append((found.start() - taken, found.group().decode()))
            taken += len(found.group())
        return Held(self._pattern, len(self._held) - taken, tuple(breaks), self._masked)

    def _restore(self, held: Held) -> None:
        text, parts, done = self._redactor.patterns[held.pattern].text[: held.length], [], 0
        for at, line_break in held.breaks:
            parts += [text[done:at], line_break.encode()]
            done = at
        self._held = b"".join([*parts, text[done:]])
        self._pattern, self._masked = held.pattern, held.masked

    def _shown(self, data: bytes, spans: list[Span], end: int) -> bytes:
        """`data` up to `end` with its secrets masked; a mask that reaches beyond it is not repeated later."""
        parts, at, masked = [], min(self._masked, end), self._masked
        for start, stop in spans:
            if start >= end and start >= masked:
                break
            if start >= masked:
                parts += [data[at:start], _MASK]
            masked = max(masked, stop)
            at = min(masked, end)
        parts.append(data[at:end])
        self._masked = max(0, masked - end)
        return b"".join(parts)


def _occurrences(data: bytes, pattern: Pattern) -> Iterator[Span]:
    """Enough of a pattern's places to cover what all of them cover."""
    if pattern.wrapped:
        found = pattern.expression.search(data)
        while found:
            yield found.span()
            found = pattern.expression.search(data, found.start() + 1)
        return
    text, size = pattern.text, len(pattern.text)
    at = data.find(text)
    while at >= 0:
        yield at, at + size
        overlapping = data.rfind(text, at + 1, at + 2 * size - 1)
        at = overlapping if overlapping >= 0 else data.find(text, at + size)


def _merged(spans: list[Span]) -> list[Span]:
    spans.sort()
    merged = [spans[0]]
    for start, stop in spans[1:]:
        last_start, last_stop = merged[-1]
        if start < last_stop:
            merged[-1] = (last_start, max(last_stop, stop))
        else:
            merged.append((start, stop))
    return merged
