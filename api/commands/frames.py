"""Frames of the event stream in words: one line of a terminal each, or a part of one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from api.client import Event, LogRecord
from api.commands.records import describe
from api.plain_text import escaped

Body = Mapping[str, Any]

TYPES = ("state_change", "output", "progress", "metrics", "error", "artifact", "event")
"""What may be asked for (contract §6)."""
LONGEST_LINE = 4096
"""Characters of a line that has not ended which are kept."""
_MEBIBYTE, _GIBIBYTE = 1 << 20, 1 << 30
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][0-9A-B]|[=>78cDEM])")
"""What a program sends to colour its words, and to paint: not the words."""


def visible(text: str) -> str:
    """The words of a text that a program has printed, on one line that a terminal shows as it is."""
    return escaped(_SEQUENCE.sub("", text).expandtabs(4))


def last_line(data: str) -> str:
    """The last words of an output; what a carriage return overwrites does not count. Empty when there are none."""
    for line in reversed(re.split(r"[\r\n]", data[-LONGEST_LINE:])):
        if words := visible(line).strip():
            return words
    return ""


def cpu(metrics: Body) -> str | None:
    """What of a core is used: 200 % are two of them."""
    used = _number(metrics.get("cpu_percent"))
    return None if used is None else f"{used:.0f} %"


def memory(metrics: Body) -> str | None:
    """Used and allowed."""
    return _share(metrics.get("memory_used_bytes"), metrics.get("memory_total_bytes"))


def disk(metrics: Body) -> str | None:
    """Used and allowed."""
    return _share(metrics.get("disk_used_bytes"), metrics.get("disk_total_bytes"))


def percent(progress: Body) -> float | None:
    """How far the task says it is, 0 to 100; None when it says nothing."""
    return _number(progress.get("percent"))


def progress_words(progress: Body) -> str:
    """How far the task says it is, and with what; empty when it says neither."""
    far = percent(progress)
    parts = [f"{far:.0f} %"] if far is not None else []
    parts += [visible(str(progress["text"]))] if progress.get("text") else []
    return " ".join(parts)


def usage_words(metrics: Body) -> list[str]:
    """What a sandbox uses just now."""
    parts = [("cpu", cpu(metrics)), ("memory", memory(metrics)), ("disk", disk(metrics))]
    return [f"{name} {value}" for name, value in parts if value is not None]


def words(event: Event) -> str:
    """Say in one line what a frame tells; output has lines of its own."""
    body = event.body
    if event.kind == "error":
        return f"error {visible(str(body.get('error') or '?'))}: {visible(str(body.get('message') or ''))}"
    if event.kind == "metrics":
        return ", ".join(usage_words(_object(body, "metrics")))
    if event.kind == "progress":
        return _progress(_object(body, "progress"))
    if event.kind == "gap":
        return f"gap: {visible(str(body.get('reason') or 'something is missing here'))}"
    of_agent = event.kind == "event"
    return describe(LogRecord("", event.kind, _object(body, "event") if of_agent else dict(body)))


def _progress(progress: Body) -> str:
    tool = f"uses {visible(str(progress['current_tool']))}" if progress.get("current_tool") else ""
    return f"progress {progress_words(progress) or tool}".rstrip()


def _object(body: Body, name: str) -> dict[str, Any]:
    found = body.get(name)
    return found if isinstance(found, dict) else {}


def _share(used: object, total: object) -> str | None:
    """`1.2/8.0 G`, or in M when the limit is small; without a limit the use alone."""
    have, most = _number(used), _number(total)
    if have is None:
        return None
    of, unit, digits = (_GIBIBYTE, "G", 1) if max(have, most or 0) >= _GIBIBYTE else (_MEBIBYTE, "M", 0)
    limit = "" if most is None else f"/{most / of:.{digits}f}"
    return f"{have / of:.{digits}f}{limit} {unit}"


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
