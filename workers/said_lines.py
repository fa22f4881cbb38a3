"""What a command says of itself: lines `::progress 40 text` and `::output key=value` in what it prints."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestrator import clock

MAX_TEXT_CHARACTERS = 500
MAX_VALUE_BYTES = 8 << 10
MAX_OUTPUTS = 100
MAX_OUTPUTS_BYTES = 64 << 10
"""Of all keys and values together."""
QUOTED_CHARACTERS = 80
MOST_PROGRESS, MOST_OUTPUT = 20, 2000
"""Lines of each kind that are read of what is delivered at once, the last ones: reading costs more than printing."""
MAX_LINE_BYTES = MAX_VALUE_BYTES + 512
"""Behind the word: a line that is longer is not taken, whole or in pieces."""

PROGRESS_FORM = (
    f"the form is `::progress 40 text`: a number from 0 to 100, then at most {MAX_TEXT_CHARACTERS} characters of text, "
    "or none"
)
OUTPUT_FORM = (
    "the form is `::output key=value`: a key of at most 128 letters, digits and `_.-` that begins with a letter or "
    f"`_`, and a value of at most {MAX_VALUE_BYTES >> 10} KiB"
)
TOO_MANY = f"of more than {MOST_OUTPUT} such lines at once only the last are read; print fewer, or slower"
NO_ROOM = (
    f"a task has at most {MAX_OUTPUTS} outputs, of {MAX_OUTPUTS_BYTES >> 10} KiB together; write the rest into a file, "
    "and have it kept as an artifact"
)

_FORMS = {b"::progress": ("progress", PROGRESS_FORM), b"::output": ("output", OUTPUT_FORM)}
_WORDS = tuple(_FORMS)
_LINE = re.compile(rb"^::(progress|output)(?=[ \t\r\n])([^\n]*)\n", re.MULTILINE)
_PERCENT_AND_TEXT = re.compile(rb"[ \t]+([0-9]{1,3}(?:\.[0-9]{1,20})?)(?:[ \t]+(.*))?", re.DOTALL)
_KEY_AND_VALUE = re.compile(rb"[ \t]+([A-Za-z_][A-Za-z0-9_.-]{0,127})=(.*)", re.DOTALL)
_NOT_TEXT = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x1f\x7f-\x9f]")
"""Colours, and all else that would move a terminal's cursor."""


@dataclass(frozen=True, slots=True)
class SaidProgress:
    """How far a command says it is: 0 to 100, and what it does. `at` is when it said so."""

    percent: float
    text: str | None
    at: datetime


class SaidLines:
    """Feed what is delivered of each stream, in order. Can be stored between any two calls. Not thread-safe.

    `outputs` has the last value of each key. A worker that goes on after another one is told by `know` what that one
    has stored.
    """

    def __init__(self, stored: Mapping[str, Any] | None = None) -> None:
        known = stored or {}
        self._begun = _begun(known.get("begun", {}))
        """By stream, the unfinished line that was delivered; empty when it is one of the command's own."""
        self._refused: set[str] = set(known.get("refused", ()))
        self._told: tuple[float | None, str | None] = (None, None)
        self._newest = _progress(known.get("progress"))
        self._unsaved: dict[str, str] = dict(known.get("outputs", {}))
        self._outputs_bytes = 0
        self.outputs: dict[str, str] = {}

    def know(self, percent: float | None, text: str | None, outputs: Mapping[str, str] | None) -> None:
        """This much is stored already, but for what was noted beside how far the output is stored."""
        self._told = percent, text
        self.outputs = {**(outputs or {}), **self._unsaved}
        self._outputs_bytes = sum(_size_bytes(key, value) for key, value in self.outputs.items())

    def take(self, stream: str, data: bytes, at: datetime) -> list[str]:
        """Read what comes next of a stream; return what its user must be told, each kind of it once."""
        if not data:
            return []
        begun = self._begun.get(stream)
        data = (begun or b"") + data
        start = data.find(b"\n") + 1 if begun == b"" else 0
        if begun == b"" and not start:
            return []
        told = self._read(data, start, at) if any(word in data for word in _WORDS) else []
        told.append(self._begin(stream, data[data.rfind(b"\n") + 1 :]))
        return [one for one in told if one is not None]

    def _begin(self, stream: str, line: bytes) -> str | None:
        """Keep the unfinished line as long as it may become one of ours."""
        self._begun.pop(stream, None)
        if not line:
            return None
        word = next((word for word in _WORDS if word.startswith(line[: len(word)])), None)
        self._begun[stream] = line if word and len(line) - len(word) <= MAX_LINE_BYTES else b""
        if word is None or self._begun[stream] or not _LINE.match(line + b"\n"):
            return None
        return self._refuse(*_FORMS[word], line)

    def _read(self, data: bytes, start: int, at: datetime) -> list[str | None]:
        lines = list(_LINE.finditer(data, start))
        progress = [found for found in lines if found[1] == b"progress"]
        outputs = [found for found in lines if found[1] == b"output"]
        told = [self._read_progress(_said(found), at) for found in progress[-MOST_PROGRESS:]]
        if len(outputs) > MOST_OUTPUT:
            told.append(self._refuse("flood", TOO_MANY, outputs[0][0]))
        return told + [self._read_output(_said(found)) for found in outputs[-MOST_OUTPUT:]]

    def sever(self) -> None:
        """Something is missing here: what follows may be the end of a line."""
        self._begun = dict.fromkeys(("stdout", "stderr"), b"")

    def finish(self) -> bool:
        """Nothing follows: forget a line that was not ended. True when there was one."""
        begun, self._begun = self._begun, {}
        return bool(begun)

    @property
    def has_news(self) -> bool:
        """True when there is something to store."""
        return self._newest is not None or bool(self._unsaved)

    def news(self) -> tuple[SaidProgress | None, Mapping[str, str] | None]:
        """The newest progress, and all outputs, as they are to be stored; None for what is stored already."""
        newest, self._newest = self._newest, None
        changed, self._unsaved = bool(self._unsaved), {}
        if newest is not None and (newest.percent, newest.text) == self._told:
            newest = None
        if newest is not None:
            self._told = newest.percent, newest.text
        return newest, self.outputs if changed else None

    def dump(self) -> dict[str, Any]:
        """What another worker must know, with what is not stored yet."""
        begun = {stream: base64.b64encode(line).decode() for stream, line in self._begun.items()}
        state: dict[str, Any] = {"begun": begun, "refused": sorted(self._refused)}
        state["outputs"] = self._unsaved
        if self._newest is not None:
            state["progress"] = [self._newest.percent, self._newest.text, clock.text(self._newest.at)]
        return {name: value for name, value in state.items() if value}

    def _read_progress(self, said: bytes, at: datetime) -> str | None:
        found = _PERCENT_AND_TEXT.fullmatch(said.rstrip())
        text = _text(found[2] or b"") if found else ""
        is_long = len(said) > MAX_LINE_BYTES or len(text) > MAX_TEXT_CHARACTERS
        if found is None or float(found[1]) > 100 or is_long:
            return self._refuse(*_FORMS[b"::progress"], b"::progress" + said)
        self._newest = SaidProgress(round(float(found[1]), 2), text or None, at)
        return None

    def _read_output(self, said: bytes) -> str | None:
        found = _KEY_AND_VALUE.fullmatch(said)
        if found is None or len(found[2]) > MAX_VALUE_BYTES or len(said) > MAX_LINE_BYTES:
            return self._refuse(*_FORMS[b"::output"], b"::output" + said)
        key = found[1].decode()
        value = found[2].decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
        before = self.outputs.get(key)
        size = self._outputs_bytes + _size_bytes(key, value) - (0 if before is None else _size_bytes(key, before))
        if size > MAX_OUTPUTS_BYTES or (before is None and len(self.outputs) == MAX_OUTPUTS):
            return self._refuse("outputs", NO_ROOM, b"::output" + said)
        self.outputs[key], self._outputs_bytes = value, size
        if value != before:
            self._unsaved[key] = value
        return None

    def _refuse(self, kind: str, why: str, line: bytes) -> str | None:
        """What to tell of a line that is not taken; None when that was told already."""
        if kind in self._refused:
            return None
        self._refused.add(kind)
        quoted = _text(line[: 8 * QUOTED_CHARACTERS])
        if len(quoted) > QUOTED_CHARACTERS:
            quoted = quoted[:QUOTED_CHARACTERS] + "…"
        return f"the line `{quoted}` was not taken: {why}; of others like it nothing is said"


def _begun(noted: Mapping[str, str] | list[str]) -> dict[str, bytes]:
    if isinstance(noted, list):  # by 0.1.0 before lines in pieces were read: what they began with is not known
        return dict.fromkeys(noted, b"")
    return {stream: base64.b64decode(line) for stream, line in noted.items()}


def _said(found: re.Match[bytes]) -> bytes:
    return found[2].removesuffix(b"\r")


def _progress(noted: list[Any] | None) -> SaidProgress | None:
    return SaidProgress(noted[0], noted[1], clock.parse(noted[2])) if noted else None


def _text(data: bytes) -> str:
    """As it may stand on one line of a terminal."""
    return _NOT_TEXT.sub("", data.decode(errors="replace").replace("\t", " ")).strip()


def _size_bytes(key: str, value: str) -> int:
    return len(key) + len(value.encode())
