"""Text from outside, made fit for a line of a terminal."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def escaped(text: str) -> str:
    """The text with its control characters, which could repaint the terminal, written as escapes: one line."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
