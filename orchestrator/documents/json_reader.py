"""JSON text → plain data.

The standard decoder takes NaN, infinities and duplicate keys, and recurses as deep as the text; each is
refused here. Positions are found by a second, linear walk over the tokens, only for a refused document.
"""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

from orchestrator.documents.parts import (
    MAX_DEPTH,
    MAX_NODES,
    MAX_PROBLEMS,
    Document,
    InvalidDocument,
    Path,
    Position,
    Positions,
    Problem,
    big_number,
    duplicate_key,
    position_at,
    scalars,
    too_deep,
    too_many_nodes,
    unstorable,
)
from orchestrator.documents.scalars import finite, within_64_bits

# Possessive, and an unclosed string matches to the end of the text: both keep the scan linear.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[{}\[\],:]|[^\s{}\[\],:"]++', re.DOTALL)


class _NumberError(Exception):
    """A number that is not finite or not of 64 bits; the argument is its text."""


def read(text: str) -> Document:
    """Return the one value in `text`; raise `InvalidDocument` for anything else."""
    _refuse_exhausting(text)
    data = _decoded(text)
    if "\\u" in text:
        _refuse_unstorable(data, text)
    return Document(data, lambda: _Locator(text).positions)


def _refuse_exhausting(text: str) -> None:
    """Check depth and number of nodes; most texts are so small that counting characters proves both."""
    openings = text.count("{") + text.count("[")
    if openings <= MAX_DEPTH and openings + text.count(",") + text.count(":") < MAX_NODES:
        return
    depth = nodes = 0
    for match in _TOKEN.finditer(text):
        piece = match[0]
        if piece in ",:":
            continue
        if piece in "]}":
            depth -= 1
            continue
        nodes += 1
        depth += piece in "[{"
        if depth > MAX_DEPTH:
            raise too_deep(position_at(text, match.start()))
        if nodes > MAX_NODES:
            raise too_many_nodes(position_at(text, match.start()))


def _decoded(text: str) -> Any:
    has_duplicates = False

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal has_duplicates
        made = dict(pairs)
        has_duplicates = has_duplicates or len(made) != len(pairs)
        return made

    try:
        data = json.loads(
            text,
            object_pairs_hook=mapping,
            parse_constant=_refuse_number,
            parse_int=_integer,
            parse_float=_float,
        )
    except json.JSONDecodeError as error:
        message = f"the text is not valid JSON: {error.msg}; look at the commas, quotes and brackets before it"
        raise InvalidDocument([Problem("syntax", message, position=Position(error.lineno, error.colno))]) from error
    except _NumberError as error:
        literal = str(error)
        places = (match.start() for match in _TOKEN.finditer(text) if match[0] == literal)
        raise InvalidDocument([big_number(literal, position_at(text, next(places, 0)))]) from error
    if has_duplicates:
        raise InvalidDocument(_Locator(text).duplicates)
    return data


def _refuse_number(literal: str) -> Any:
    raise _NumberError(literal)


def _integer(literal: str) -> int:
    try:
        return within_64_bits(literal)
    except ValueError as error:
        raise _NumberError(literal) from error


def _float(literal: str) -> float:
    try:
        return finite(literal)
    except ValueError as error:
        raise _NumberError(literal) from error


def _refuse_unstorable(data: Any, text: str) -> None:
    """Find the strings and keys that an escape made unstorable."""
    problems = [
        (problem, path)
        for path, value in scalars(data)
        if isinstance(value, str) and (problem := unstorable(value)) is not None
    ]
    if problems:
        found = _Locator(text).positions
        raise InvalidDocument(
            [
                Problem(problem.validation, problem.message, path, found.value(path))
                for problem, path in problems[:MAX_PROBLEMS]
            ]
        )


class _Frame:
    """An object or a list that is not closed yet; `step` is the key or index of the next value."""

    __slots__ = ("is_object", "keys", "path", "step")

    def __init__(self, path: Path, *, is_object: bool) -> None:
        self.path = path
        self.is_object = is_object
        self.step: str | int | None = None if is_object else 0
        self.keys: dict[str, int] = {}


class _Locator:
    """Walks over the tokens of a valid JSON text and notes the offset of each value and key."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.positions = Positions({}, {}, partial(position_at, text))
        self.duplicates: list[Problem] = []
        self.stack: list[_Frame] = []
        for match in _TOKEN.finditer(text):
            self._visit(match[0], match.start())

    def _visit(self, piece: str, offset: int) -> None:
        frame = self.stack[-1] if self.stack else None
        if piece == ":":
            return
        if piece in "]}":
            self.stack.pop()
        elif piece == ",":
            if frame is not None:
                frame.step = frame.step + 1 if isinstance(frame.step, int) else None
        elif frame is not None and frame.step is None:
            self._key(frame, piece, offset)
        else:
            path = () if frame is None or frame.step is None else (*frame.path, frame.step)
            self.positions.value_places[path] = offset
            if piece in "[{":
                self.stack.append(_Frame(path, is_object=piece == "{"))

    def _key(self, frame: _Frame, piece: str, offset: int) -> None:
        key: str = json.loads(piece) if "\\" in piece else piece[1:-1]
        path = (*frame.path, key)
        first = frame.keys.setdefault(key, offset)
        if first != offset and len(self.duplicates) < MAX_PROBLEMS:
            places = (position_at(self.text, first), position_at(self.text, offset))
            self.duplicates.append(duplicate_key(key, path, *places))
        self.positions.key_places[path] = offset
        frame.step = key
