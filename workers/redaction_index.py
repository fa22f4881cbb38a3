"""Tells fast that a stretch of output holds no secret, which is so nearly always (pure).

Searching for each of many patterns (a key has one a line) would make a log slower with every one. Instead the output
is looked at in blocks of eight bytes: wherever a longer pattern stands, it fills one with bytes known beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from workers.redaction_patterns import LATER, SHORTEST_BYTES, Pattern

_BLOCK_BYTES = 8
_LONG_BYTES = 2 * _BLOCK_BYTES - 1
"""A pattern so long fills a block wherever it stands."""
_MANY = 16
"""Fewer patterns are found faster one by one than by their blocks."""
_BREAKS = b"\r\n"


class PatternIndex:
    """Of one set of patterns. Thread-safe, and immutable."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        joined = [_joined(one.text) for one in patterns]
        known = set(joined)
        needles: dict[bytes, list[Pattern]] = {}
        for pattern, text in zip(patterns, joined, strict=True):
            needles.setdefault(text[LATER:] if text[LATER:] in known else text, []).append(pattern)
        self._long = [one for one in needles.items() if len(one[0]) >= _LONG_BYTES]
        self._short = [one for one in needles.items() if len(one[0]) < _LONG_BYTES]
        self._blocks = frozenset(
            block
            for text, _ in self._long
            for at in range(_BLOCK_BYTES)
            for block in _blocks(text[at : at + _BLOCK_BYTES])
        )
        self._any_text = b"\n".join(dict.fromkeys((*joined, *(one.text for one in patterns))))
        self._reach = max((len(one.text) * (3 if one.wrapped else 1) for one in patterns), default=0)
        self._heads: dict[bytes, list[int]] = {}
        for number, pattern in enumerate(patterns):
            for length in range(1, SHORTEST_BYTES + 1):
                self._heads.setdefault(pattern.text[:length], []).append(number)

    def suspects(self, data: bytes) -> list[Pattern]:
        """The patterns that may stand in `data`: rarely more than do."""
        joined = _joined(data)
        found = [one for needle, suspects in self._short if needle in joined for one in suspects]
        if len(self._long) <= _MANY or not self._blocks.isdisjoint(_blocks(joined)):
            found += [one for needle, suspects in self._long if needle in joined for one in suspects]
        return found

    def beginnings(self, data: bytes) -> Iterator[tuple[int, list[int]]]:
        """Places near the end where patterns may begin that `data` cuts off, each with those patterns' numbers.

        Between any two characters of a wrapped pattern a line may break, with two bytes.
        """
        last = _joined(data[-3 * SHORTEST_BYTES :])[-SHORTEST_BYTES:]
        if last in self._any_text or data[-SHORTEST_BYTES:] in self._any_text:
            start = max(0, len(data) - self._reach)
            for head, numbers in self._heads.items():
                if len(head) < SHORTEST_BYTES:
                    continue
                at = data.find(head, start)
                while at >= 0:
                    yield at, numbers
                    at = data.find(head, at + 1)
        for length in range(min(SHORTEST_BYTES - 1, len(data)), 0, -1):
            numbers = self._heads.get(data[-length:], [])
            if numbers:
                yield len(data) - length, numbers


def _blocks(data: bytes) -> memoryview[int]:
    """The whole blocks from the beginning of `data`."""
    return memoryview(data)[: len(data) - len(data) % _BLOCK_BYTES].cast("Q")


def _joined(data: bytes) -> bytes:
    """Without line breaks: so a wrapped pattern stands in it as a whole, and any other one still does."""
    return data.translate(None, _BREAKS) if b"\r" in data else data.replace(b"\n", b"")
