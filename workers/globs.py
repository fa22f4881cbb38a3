"""Match workspace-relative paths against artifact patterns in linear time (pure).

Each path segment is matched by the standard library's `fnmatch`, which does not backtrack exponentially; the
libraries that translate a whole glob into one regular expression do (isolation-and-faults.md §5.1).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from functools import lru_cache

ANY_DEPTH = "**"


@lru_cache(maxsize=1024)
def _segment(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern))


def compile_pattern(pattern: str) -> tuple[str, ...]:
    """Split a pattern into segments; neighbouring `**` are one, a trailing `/` means everything below.

    A `**` at the end stands for what is below, not for the directory's own name: no file `out` is in `out/**`.
    """
    parts: list[str] = []
    for part in (pattern + ANY_DEPTH if pattern.endswith("/") else pattern).split("/"):
        if part in ("", "."):
            continue
        if part == ANY_DEPTH and parts and parts[-1] == ANY_DEPTH:
            continue
        parts.append(part)
    if parts and parts[-1] == ANY_DEPTH:
        parts.append("*")
    return tuple(parts)


def matches(path: str, pattern: Sequence[str]) -> bool:
    """True when a relative path matches. `**` stands for any number of directories, none included."""
    return len(pattern) in _reached(path, pattern)


def leads_into(directory: str, pattern: Sequence[str]) -> bool:
    """True when something below `directory` may match: other directories need not be looked into."""
    return any(place < len(pattern) for place in _reached(directory, pattern))


def _reached(path: str, pattern: Sequence[str]) -> set[int]:
    """The places of the pattern that may come next after `path`; its length means that all of it is matched.

    A set of places is carried along the path: work is path × pattern at most.
    """
    places = _skip({0}, pattern)
    for name in path.split("/"):
        following: set[int] = set()
        for place in places:
            if place == len(pattern):
                continue
            if pattern[place] == ANY_DEPTH:
                following.add(place)
            elif _segment(pattern[place]).match(name):
                following.add(place + 1)
        places = _skip(following, pattern)
    return places


def _skip(places: set[int], pattern: Sequence[str]) -> set[int]:
    """`**` may stand for nothing."""
    for place in sorted(places):
        while place < len(pattern) and pattern[place] == ANY_DEPTH:
            place += 1  # noqa: PLW2901 - walks on from here
            places.add(place)
    return places
