"""The value of an unquoted YAML scalar, by the core schema of YAML 1.2 (pure).

PyYAML's own resolver follows YAML 1.1, where `no` is false, `22:22` is 1342 and `010` is 8.
"""

from __future__ import annotations

import math
import re

Scalar = bool | int | float | str | None

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBER_STARTS = frozenset("+-.0123456789")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)", re.ASCII)
_BASED = re.compile(r"0o([0-7]+)|0x([0-9a-fA-F]+)", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


def resolved(text: str) -> Scalar:
    """Return the value of the unquoted scalar `text`.

    Stricter than the core schema in one point: a number with a leading zero stays text, since readers
    disagree whether it is octal. Raises `ValueError` for infinities, NaN and numbers beyond 64 bits.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS:
        return text
    if _INTEGER.fullmatch(text):
        return within_64_bits(text)
    if based := _BASED.fullmatch(text):
        return within_64_bits(based[1], 8) if based[1] else within_64_bits(based[2], 16)
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(text)
    if _FLOAT.fullmatch(text):
        return finite(text)
    return text


def within_64_bits(digits: str, base: int = 10) -> int:
    """Return the integer `digits` names; raise `ValueError` when a signed 64-bit column cannot hold it."""
    # 22 octal digits hold 64 bits. The length comes first: thousands of digits are slow or an error.
    value = int(digits, base) if len(digits) <= 25 else 1 << 64
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(digits)
    return value


def finite(digits: str) -> float:
    """Return the float `digits` names; raise `ValueError` when it overflows to an infinity."""
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(digits)
    return value
