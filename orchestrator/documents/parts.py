"""What every reader of documents shares: limits, positions, and the refusals with their places."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

MAX_BYTES = 2 << 20
MAX_DEPTH = 64
MAX_NODES = 20_000
MAX_PROBLEMS = 100
"""A refused document names at most this many problems: a hostile one could hold 20,000."""

Path = tuple[str | int, ...]
"""The keys and indexes that lead from the root to a value."""


class Position(NamedTuple):
    """A place in the text; both numbers start at 1, columns count characters."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Positions:
    """Where the values and the keys of a document stand in its text.

    A reader notes places in its own form; only those that are asked for become positions.
    """

    value_places: dict[Path, Any]
    key_places: dict[Path, Any]
    position_of: Callable[[Any], Position]

    def value(self, path: Path) -> Position | None:
        """Return where the value at `path` begins, None when the text has none."""
        place = self.value_places.get(path)
        return None if place is None else self.position_of(place)

    def key(self, path: Path) -> Position | None:
        """Return where the key of the value at `path` begins; entries of lists and the root have none."""
        place = self.key_places.get(path)
        return None if place is None else self.position_of(place)


NOWHERE = Positions({}, {}, lambda _place: Position(1, 1))
"""The positions of data that comes from no text."""


@dataclass(frozen=True, slots=True)
class Document:
    """The plain data of a text: dict, list, str, int, float, bool, None.

    `plain` holds, for YAML, the text of each unquoted number and boolean: a label `1.10` is a number to
    YAML, while the field that receives it wants the characters. `locate` is called only for a refusal.
    """

    data: Any
    locate: Callable[[], Positions]
    plain: dict[Path, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why a document is refused; `validation` is the short name of the rule."""

    validation: str
    message: str
    path: Path = ()
    position: Position | None = None


class InvalidDocument(Exception):
    """The text is not a document this product reads."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems[0].message)
        self.problems = tuple(problems)


class DocumentTooLarge(Exception):
    """The body is larger than 2 MiB."""


class UnsupportedContentType(Exception):
    """The body is declared to be neither YAML nor JSON."""


def position_at(text: str, offset: int) -> Position:
    """Return the position of the character with the index `offset`."""
    line_start = text.rfind("\n", 0, offset) + 1
    return Position(text.count("\n", 0, offset) + 1, offset - line_start + 1)


def unstorable(text: str) -> Problem | None:
    """Return why no database could store `text`, or None when it can."""
    if "\0" in text:
        return Problem(
            "nul_character",
            "the text holds a NUL character: no database stores it and no program accepts it; remove it",
        )
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return Problem(
                "lone_surrogate",
                "the text holds half of a surrogate pair: that is no Unicode character and cannot be stored; "
                "write the character itself",
            )
    return None


def scalars(data: Any) -> Iterator[tuple[Path, Any]]:
    """Yield each value that is no list and no map with its path; a key comes with the path of its map."""
    waiting: list[tuple[Path, Any]] = [((), data)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            yield from ((path, key) for key in value)
            waiting.extend(((*path, key), item) for key, item in value.items())
        elif isinstance(value, list):
            waiting.extend(((*path, index), item) for index, item in enumerate(value))
        else:
            yield path, value


def too_deep(position: Position | None) -> InvalidDocument:
    """Return the refusal of a document that nests more than `MAX_DEPTH` levels."""
    message = f"the document nests more than {MAX_DEPTH} levels: such depth exhausts readers of it; make it flatter"
    return InvalidDocument([Problem("nesting", message, position=position)])


def too_many_nodes(position: Position | None) -> InvalidDocument:
    """Return the refusal of a document with more than `MAX_NODES` keys and values."""
    message = (
        f"the document holds more than {MAX_NODES:,} keys and values: that is the limit; "
        "keep bulk data in the repository"
    )
    return InvalidDocument([Problem("nodes", message, position=position)])


def duplicate_key(key: str, path: Path, first: Position, second: Position) -> Problem:
    """Return the refusal of a key that stands twice in one mapping."""
    message = (
        f"the key {key[:60]!r} stands twice, in line {first.line} and in line {second.line}: "
        "readers disagree which of the two counts; remove one"
    )
    return Problem("duplicate_key", message, path, second)


def big_number(literal: str, position: Position | None, path: Path = ()) -> Problem:
    """Return the refusal of a number that 64 bits cannot hold, infinities and NaN included."""
    message = (
        f"the number {literal[:24]}{'…' if len(literal) > 24 else ''} cannot be held in 64 bits: numbers "
        "must be finite and of that size; write a smaller one, or put it in quotes when it is text"
    )
    return Problem("number", message, path, position)
