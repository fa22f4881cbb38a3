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
    """Split a pattern into segments; neighbouring `**` are one, a trailing `/` means everything below."""
    parts: list[str] = []
    for part in (pattern + ANY_DEPTH if pattern.endswith("/") else pattern).split("/"):
        if part in ("", "."):
            continue
        if part == ANY_DEPTH and parts and parts[-1] == ANY_DEPTH:
            continue
        parts.append(part)
    return tuple(parts)


def matches(path: str, pattern: Sequence[str]) -> bool:
    """True when a relative path matches. `**` stands for any number of directories, none included.

    A set of reachable places in the pattern is carried along the path: work is path × pattern at most.
    """
    reachable = _skip({0}, pattern)
    segments = path.split("/")
    for index, name in enumerate(segments):
        last = index == len(segments) - 1
        following: set[int] = set()
        for place in reachable:
            if place == len(pattern):
                continue
            if pattern[place] == ANY_DEPTH:
                following.add(place)
                if last and place == len(pattern) - 1:
                    return True
            elif _segment(pattern[place]).match(name):
                following.add(place + 1)
        reachable = _skip(following, pattern)
        if not reachable:
            return False
    return len(pattern) in reachable


def _skip(places: set[int], pattern: Sequence[str]) -> set[int]:
    """`**` may stand for nothing."""
    for place in sorted(places):
        while place < len(pattern) and pattern[place] == ANY_DEPTH:
            place += 1  # noqa: PLW2901 - walks on from here
            places.add(place)
    return places
