"""What `sandbox doctor` says: one thing that was looked at."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, what was seen, what to do about it."""

    level: Level
    subject: str
    seen: str
    advice: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def ok(subject: str, seen: str) -> Finding:
    return Finding(Level.OK, subject, seen)


def note(subject: str, seen: str, advice: str) -> Finding:
    return Finding(Level.NOTE, subject, seen, advice)


def problem(subject: str, seen: str, advice: str) -> Finding:
    return Finding(Level.PROBLEM, subject, seen, advice)
