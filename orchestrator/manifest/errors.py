"""What is wrong with a manifest, in the words and at the place its author knows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from orchestrator.documents.parts import MAX_PROBLEMS, NOWHERE, Path, Position, Positions

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)
_USERINFO = re.compile(r"//[^/\s]*@")


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule: `path` is where, `validation` the rule's short name.

    The message has the three parts: what failed, why, what to do.
    """

    path: Path
    validation: str
    message: str
    suggestion: str | None = None


@dataclass(frozen=True, slots=True)
class ManifestError:
    """A finding with its place, as API and CLI show it (contract §1).

    `field` is dotted (`secrets[0].name`), `pointer` is RFC 6901; line and column start at 1 and are None
    when there is no text, as for a merge patch.
    """

    field: str
    pointer: str
    line: int | None
    column: int | None
    validation: str
    message: str
    suggestion: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; `suggestion` is left out when there is none."""
        shown = {name: getattr(self, name) for name in self.__slots__}
        if self.suggestion is None:
            del shown["suggestion"]
        return shown


class InvalidManifest(Exception):
    """The manifest breaks at least one rule; `errors` names all of them, in the order of the text."""

    def __init__(self, errors: Iterable[ManifestError]) -> None:
        self.errors = tuple(errors)
        more = f" (and {len(self.errors) - 1} more)" if len(self.errors) > 1 else ""
        super().__init__(f"the manifest is not valid: {self.errors[0].message}{more}")


def invalid_manifest(findings: list[Finding], positions: Positions | None) -> InvalidManifest:
    """Return the refusal for `findings`: sorted by their place in the text, at most 100 of them."""
    errors = [_located(finding, positions or NOWHERE) for finding in findings[:MAX_PROBLEMS]]
    return InvalidManifest(sorted(errors, key=lambda error: (error.line or 0, error.column or 0)))


def _located(finding: Finding, positions: Positions) -> ManifestError:
    position = _nearest(finding, positions)
    return ManifestError(
        field=field_name(finding.path),
        pointer=json_pointer(finding.path),
        line=position.line if position else None,
        column=position.column if position else None,
        validation=finding.validation,
        message=finding.message,
        suggestion=finding.suggestion,
    )


_ABOUT_THE_KEY = frozenset({"unknown_field", "key_form"})


def _nearest(finding: Finding, positions: Positions) -> Position | None:
    """Return where the finding stands: its key or value, or the closest thing around it."""
    path = finding.path
    if finding.validation in _ABOUT_THE_KEY and (position := positions.key(path)):
        return position
    if position := positions.value(path):
        return position
    while path:
        path = path[:-1]
        # A missing field is shown at the key it should stand under; the root has none.
        if position := positions.key(path) or positions.value(path):
            return position
    return None


def field_name(path: Path) -> str:
    """Return `path` dotted: `secrets[0].name`; keys that are no plain words come quoted in brackets, cut at 80."""
    name = ""
    for step in path:
        if isinstance(step, int):
            name += f"[{step}]"
        elif len(step) <= 80 and _PLAIN_KEY.fullmatch(step):
            name += f".{step}" if name else step
        else:
            name += f"[{json.dumps(step[:80], ensure_ascii=False)}]"
    return name


def json_pointer(path: Path) -> str:
    """Return `path` as a JSON pointer (RFC 6901); the whole document is the empty string."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


_MAX_SHOWN = 2048
_CONFIDENTIAL = frozenset({"env", "headers", "secret"})


def shown(value: Any, path: Path = ()) -> str:
    """Return `value` for a message: short, without the user and password of a URL.

    Below `env`, `headers` and `secret` only the type is named: people put secrets there in spite of all advice.
    """
    if isinstance(value, dict | list) or not _CONFIDENTIAL.isdisjoint(path):
        return type_name(value)
    if isinstance(value, str) and len(value) > _MAX_SHOWN:
        value = value[:_MAX_SHOWN] + "…"
    text = _USERINFO.sub("//***@", json.dumps(value, ensure_ascii=False))
    return text if len(text) <= 60 else text[:57] + "…" + text[-1]


_TYPES = {
    "NoneType": "null",
    "bool": "a boolean",
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "list": "a list",
    "dict": "a map",
}


def type_name(value: Any) -> str:
    """Return the word for the type of `value` that authors of YAML and JSON use."""
    return _TYPES[type(value).__name__]


def closest(word: object, known: Iterable[str]) -> str | None:
    """Return the one of `known` that `word` probably was to be, or None."""
    if not isinstance(word, str) or not 1 < len(word) <= 64:
        return None
    by_lower = {one.lower(): one for one in known}
    found = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.7)
    return by_lower[found[0]] if found else None
