"""In which forms a secret may appear in a log: byte patterns made of a value (pure)."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote, quote_plus

SHORTEST_BYTES = 4
"""Anything shorter would mask half of every log, and guess the secret for its reader."""
FORMS = 1
"""Raised when other patterns, or another order of them, are made of the same values: stored states name them."""

_ALIGNMENTS = (0, 2, 3)
"""The first base64 character that is wholly the value's when it begins 0, 1 or 2 bytes into a group of three."""
_UNBROKEN = 4
"""So many characters of a wrapped form stand before its first line break; `LATER` begins where fewer do."""
LATER = 3
_BREAK = rb"(?:\r?\n)?"


@dataclass(frozen=True)
class Pattern:
    """What is looked for. `wrapped`: single line breaks may stand in it, as `base64` writes them."""

    text: bytes
    wrapped: bool = False

    @cached_property
    def expression(self) -> re.Pattern[bytes]:
        """The same with its line breaks; slower than a search for bytes, so used only once there is something."""
        characters = [re.escape(self.text[at : at + 1]) for at in range(len(self.text))]
        return re.compile(b"".join(characters[:_UNBROKEN]) + b"".join(_BREAK + one for one in characters[_UNBROKEN:]))

    def begun_by(self, data: bytes) -> bool:
        """Tell whether more bytes could complete `data` to a match."""
        if not self.wrapped:
            return len(data) < len(self.text) and self.text.startswith(data)
        lines = data.replace(b"\r\n", b"\n")
        lines = lines[:-1] + b"\n" if lines.endswith(b"\r") else lines
        if b"\n\n" in lines or b"\n" in lines[:_UNBROKEN]:
            return False
        joined = lines.replace(b"\n", b"")
        return len(joined) < len(self.text) and self.text.startswith(joined)


def patterns(values: Sequence[bytes]) -> tuple[Pattern, ...]:
    """The patterns of all values, each once, in an order that depends on the values alone."""
    return tuple(dict.fromkeys(pattern for value in values for pattern in _forms(value.strip())))


def unmasked(value: bytes) -> int:
    """How many lines of a value are too short to be looked for; empty ones do not count."""
    return sum(1 for line in value.split(b"\n") if 0 < len(line.strip()) < SHORTEST_BYTES)


def _forms(value: bytes) -> Iterator[Pattern]:
    if len(value) < SHORTEST_BYTES:
        return
    yield Pattern(value)
    lines = [line.strip() for line in value.split(b"\n")]
    yield from (Pattern(line) for line in lines if len(line) >= SHORTEST_BYTES)
    for quoted in (quote(value, safe=""), quote(value), quote_plus(value)):
        yield Pattern(quoted.encode())
        yield Pattern(re.sub("%..", lambda code: code.group().lower(), quoted).encode())
    text = value.decode("utf-8", "replace")
    for ascii_only in (True, False):
        escaped = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield from (Pattern(one.encode()) for one in (escaped, escaped.replace("/", "\\/")))
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield from _encoded(value, encode)


def _encoded(value: bytes, encode: Callable[[bytes], bytes]) -> Iterator[Pattern]:
    """What every base64 text holds in which the value stands anywhere, also where a line breaks soon after it."""
    for shift, first in enumerate(_ALIGNMENTS):
        whole = encode(bytes(shift) + value)[first : (len(value) + shift) * 8 // 6]
        yield Pattern(whole, wrapped=True)
        if len(whole) >= LATER + 2 * _UNBROKEN:
            yield Pattern(whole[LATER:], wrapped=True)
