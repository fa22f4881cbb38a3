"""Look into manifest data that may be broken: a value of another type counts as absent."""

from __future__ import annotations

from typing import Any

MAX_ENTRIES = 4096


def value(data: Any, *path: str) -> Any:
    """Return what stands at `path`, None when the way there is missing."""
    for step in path:
        if not isinstance(data, dict):
            return None
        data = data.get(step)
    return data


def text(data: Any, *path: str) -> str | None:
    """Return the string at `path`, None for anything else."""
    found = value(data, *path)
    return found if isinstance(found, str) else None


def mapping(data: Any, *path: str) -> dict[str, Any]:
    """Return the map at `path`, an empty one for anything else."""
    found = value(data, *path)
    return found if isinstance(found, dict) else {}


def entries(data: Any, *path: str) -> list[tuple[int, Any]]:
    """Return the list at `path` with indexes, an empty one for anything else.

    Of a longer list than any field takes, the rest is left out: the schema refuses its size.
    """
    found = value(data, *path)
    return list(enumerate(found[:MAX_ENTRIES])) if isinstance(found, list) else []
