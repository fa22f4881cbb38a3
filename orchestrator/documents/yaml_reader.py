"""YAML text → plain data, built from the event stream.

`yaml.load` is never used: it runs out of C stack on deep nesting, expands aliases and merge keys without
a limit, keeps the last of duplicate keys and reads scalars by YAML 1.1 (isolation-and-faults.md §5.1).
The event stream is produced iteratively, so each refusal comes before anything is built for it.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

import yaml
from yaml.reader import Reader, ReaderError

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
    too_deep,
    too_many_nodes,
    unstorable,
)
from orchestrator.documents.scalars import Scalar, resolved

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_TAG_LINE = re.compile("(?:^|[\n\r\x85\u2028\u2029])%TAG")
_MAX_TAG_LINES = 8
"""libyaml compares each %TAG with all before it, inside one event: 20,000 of them take 0.6 s."""

_REASONS = {
    "key_not_text": "the key {shown} is not text: unquoted, YAML reads it as a number, true, false or null; "
    "put it in quotes",
    "key_not_scalar": "a key is a list or a map: keys must be text; write a plain word",
    "anchor": "the anchor &{shown} is refused: anchors and aliases let a small text explode; "
    "write the value out where it is used",
    "alias": "the alias *{shown} is refused: a few of them expand to millions of values; "
    "write the value out where it is used",
    "tag": "the tag {shown} is refused: a manifest holds plain data only; remove the tag",
    "directive": "a %TAG directive is refused: it serves tags, and a manifest holds plain data only; remove the line",
    "documents": "the text holds more than one document: one manifest is one task; send each by itself",
    "empty": "the document is empty: it holds no keys; send a manifest",
}


def read(text: str) -> Document:
    """Return the one document in `text`; raise `InvalidDocument` for anything else."""
    # The plain count is ten times faster than the pattern, and nearly always enough.
    if text.count("%TAG") > _MAX_TAG_LINES and len(_TAG_LINE.findall(text)) > _MAX_TAG_LINES:
        raise InvalidDocument([_problem("directive")])
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            _HANDLERS[type(event)](builder, event)
    # Without libyaml an impossible escape such as "\UFFFFFFFF" comes as ValueError or OverflowError.
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise InvalidDocument([*builder.problems, _syntax_problem(error, text)]) from error
    if builder.problems:
        raise InvalidDocument(builder.problems)
    if builder.is_empty:
        raise InvalidDocument([_problem("empty")])
    return Document(builder.root, builder.positions, builder.plain)


class _Frame:
    """A mapping or a sequence that is not closed yet; `key` waits for its value."""

    __slots__ = ("container", "is_mapping", "key", "marks", "path")

    def __init__(self, container: Any, path: Path, *, is_mapping: bool) -> None:
        self.container = container
        self.path = path
        self.is_mapping = is_mapping
        self.key: str | None = None
        self.marks: dict[str, Any] = {}


class _Builder:
    """Builds the data from events. Notes every problem, but stops at depth, nodes and a second document."""

    def __init__(self) -> None:
        self.root: Any = None
        self.is_empty = True
        self.documents = 0
        self.nodes = 0
        self.stack: list[_Frame] = []
        self.problems: list[Problem] = []
        self.plain: dict[Path, str] = {}
        self.value_marks: dict[Path, Any] = {}
        self.key_marks: dict[Path, Any] = {}

    def positions(self) -> Positions:
        return Positions(self.value_marks, self.key_marks, _position)

    def nothing(self, _event: Any) -> None:
        """Stream and document ends carry nothing."""

    def document(self, event: Any) -> None:
        self.documents += 1
        if self.documents > 1:
            self._stop("documents", event)
        if event.tags:
            self._note(_problem("directive", event))

    def alias(self, event: Any) -> None:
        path = self._enter(event)
        self._note(_problem("alias", event, path, event.anchor))
        self._place(None, event, path)

    def scalar(self, event: Any) -> None:
        path = self._enter(event)
        if event.anchor is not None or event.tag is not None:
            self._refuse_properties(event, path)
        value = self._value(event, path)
        frame = self.stack[-1] if self.stack else None
        if frame is not None and frame.is_mapping and frame.key is None:
            self._open_key(frame, value, event)
            return
        if event.implicit[0] and value is not None and not isinstance(value, str):
            self.plain[path] = event.value
        self._place(value, event, path)

    def start(self, event: Any) -> None:
        path = self._enter(event)
        if event.anchor is not None or event.tag is not None:
            self._refuse_properties(event, path)
        if len(self.stack) >= MAX_DEPTH:
            raise too_deep(_position(event.start_mark))
        if self.stack and self.stack[-1].is_mapping and self.stack[-1].key is None:
            self._stop("key_not_scalar", event)
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        container: Any = {} if is_mapping else []
        self._place(container, event, path)
        self.stack.append(_Frame(container, path, is_mapping=is_mapping))

    def end(self, _event: Any) -> None:
        self.stack.pop()

    def _enter(self, event: Any) -> Path:
        """Count a node; return its path, for a key that of its mapping."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise too_many_nodes(_position(event.start_mark))
        if not self.stack:
            return ()
        frame = self.stack[-1]
        if frame.is_mapping:
            return frame.path if frame.key is None else (*frame.path, frame.key)
        return (*frame.path, len(frame.container))

    def _value(self, event: Any, path: Path) -> Scalar:
        text: str = event.value
        if (problem := unstorable(text)) is not None:
            self._note(Problem(problem.validation, problem.message, path, _position(event.start_mark)))
        if not event.implicit[0]:
            return text
        try:
            return resolved(text)
        except ValueError:
            self._note(big_number(text, _position(event.start_mark), path))
            return 0

    def _place(self, value: Any, event: Any, path: Path) -> None:
        """Put a finished or opened value where it belongs."""
        self.value_marks[path] = event.start_mark
        if not self.stack:
            self.root = value
            self.is_empty = value is None
            return
        frame = self.stack[-1]
        if frame.is_mapping:
            # Only an alias can stand where a key should; the document is refused for it already.
            frame.container[frame.key or ""] = value
            frame.key = None
        else:
            frame.container.append(value)

    def _open_key(self, frame: _Frame, value: Scalar, event: Any) -> None:
        key: str = event.value
        mark = event.start_mark
        path = (*frame.path, key)
        if not isinstance(value, str):
            self._note(_problem("key_not_text", event, frame.path, repr(key)))
        first = frame.marks.setdefault(key, mark)
        if first is not mark:
            self._note(duplicate_key(key, path, _position(first), _position(mark)))
        self.key_marks[path] = mark
        frame.key = key

    def _refuse_properties(self, event: Any, path: Path) -> None:
        if event.anchor is not None:
            self._note(_problem("anchor", event, path, event.anchor))
        if event.tag is not None:
            self._note(_problem("tag", event, path, event.tag))

    def _note(self, problem: Problem) -> None:
        self.problems.append(problem)
        if len(self.problems) >= MAX_PROBLEMS:
            raise InvalidDocument(self.problems)

    def _stop(self, validation: str, event: Any) -> NoReturn:
        raise InvalidDocument([*self.problems, _problem(validation, event)])


_HANDLERS: dict[type, Any] = {
    yaml.StreamStartEvent: _Builder.nothing,
    yaml.StreamEndEvent: _Builder.nothing,
    yaml.DocumentStartEvent: _Builder.document,
    yaml.DocumentEndEvent: _Builder.nothing,
    yaml.AliasEvent: _Builder.alias,
    yaml.ScalarEvent: _Builder.scalar,
    yaml.MappingStartEvent: _Builder.start,
    yaml.SequenceStartEvent: _Builder.start,
    yaml.MappingEndEvent: _Builder.end,
    yaml.SequenceEndEvent: _Builder.end,
}


def _position(mark: Any) -> Position:
    return Position(mark.line + 1, mark.column + 1)


def _problem(validation: str, event: Any = None, path: Path = (), shown: str = "") -> Problem:
    message = _REASONS[validation].format(shown=shown[:80])
    return Problem(validation, message, path, None if event is None else _position(event.start_mark))


def _syntax_problem(error: Exception, text: str) -> Problem:
    if isinstance(error, ReaderError):
        found = Reader.NON_PRINTABLE.search(text)
        shown = f" U+{ord(found[0]):04X}" if found else ""
        message = f"the text holds the control character{shown}: YAML does not allow it; remove or escape it"
        return Problem("syntax", message, position=position_at(text, found.start()) if found else None)
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error)
    context = f" {around}" if (around := getattr(error, "context", None)) else ""
    advice = "look for wrong indentation, an unclosed quote or bracket, or a ':' in unquoted text"
    if mark is not None and text[mark.index : mark.index + 1] == "\t":
        advice = "indent with spaces: YAML does not allow tabs there"
    message = f"the text is not valid YAML: {what[:200]}{context}; {advice}"
    return Problem("syntax", message, position=None if mark is None else _position(mark))
