"""Reading lines of JSON that a stranger wrote: every value is taken for what it is expected to be, or for nothing.

What is handed on can be stored anywhere: finite numbers, and text without NUL and half characters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

ID_CHARACTERS = 200
"""No id or name that was seen is nearly as long."""
_LARGEST = 1e15


def parsed(line: bytes) -> Mapping[str, Any] | None:
    """The object that a line holds; None when it holds none. Raises `RecursionError` for one that is too deep."""
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        found = json.loads(line.decode("utf-8", "replace"), parse_constant=lambda _name: None)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def objects(value: object) -> Iterator[Mapping[str, Any]]:
    """The objects in a list."""
    if isinstance(value, list):
        yield from (one for one in value if isinstance(one, dict))


def name(value: object) -> str:
    """An id, a name, or another short text."""
    return cut(value, ID_CHARACTERS)[0]


def number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) and abs(value) < _LARGEST else None


def count(value: object) -> int:
    found = number(value)
    return int(found) if found is not None and found > 0 else 0


def cut(value: object, limit_bytes: int) -> tuple[str, bool]:
    """A text of at most so many bytes in UTF-8, and whether something is missing; what is no text is empty."""
    if not isinstance(value, str):
        return "", False
    begun = value[:limit_bytes]
    data = begun.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace")
    is_cut = len(begun) < len(value) or len(data) > limit_bytes
    return data[:limit_bytes].decode("utf-8", "ignore"), is_cut
