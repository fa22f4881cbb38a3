"""Read a manifest as the user gave it, change it by `--set`, and print what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import click

from api.commands.assignments import Assignment, assign_all
from orchestrator.documents import InvalidDocument, read

_YAML = "application/yaml"
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A manifest's bytes. `positions_hold` is False once it was changed: lines are no longer the file's."""

    name: str
    body: bytes
    content_type: str
    positions_hold: bool = True

    @classmethod
    def read_from(cls, file: BinaryIO) -> ManifestFile:
        """Read the file; the name's ending says whether it is JSON, for stdin the first character does."""
        body = file.read()
        name = str(getattr(file, "name", "-"))
        if name in {"-", "<stdin>"}:
            return cls("<stdin>", body, _JSON if body.lstrip().startswith(b"{") and _is_json(body) else _YAML)
        return cls(name, body, _JSON if name.lower().endswith(".json") else _YAML)

    def changed(self, assignments: Sequence[Assignment]) -> ManifestFile:
        """Return the manifest with the assignments made.

        Raises `UsageError` when the text is no document, or a path does not fit it.
        """
        if not assignments:
            return self
        from orchestrator.manifest.schema import restore_texts  # noqa: PLC0415 - slow to import, rarely wanted

        try:
            document = read(self.body, self.content_type)
        except InvalidDocument as error:
            problems = [
                {"line": one.position and one.position.line, "column": one.position and one.position.column}
                | {"message": one.message}
                for one in error.problems
            ]
            raise click.UsageError("\n".join(error_lines(self.name, problems))) from error
        if isinstance(document.data, dict):
            restore_texts(document.data, document.plain)
        changed = assign_all(document.data, assignments)
        return ManifestFile(self.name, json.dumps(changed).encode(), _JSON, positions_hold=False)

    def error_lines(self, errors: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return one line for each mistake (members of contract §1), with its place in the file."""
        if not self.positions_hold:
            errors = [{**one, "line": None, "column": None} for one in errors]
        return error_lines(self.name, errors)


def error_lines(name: str, errors: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return `FILE:line:column: message (did you mean …?)` for each mistake; without a line, its field."""
    lines = []
    for one in errors:
        line, column, message = one.get("line"), one.get("column"), str(one.get("message"))
        field = one.get("field") or "manifest"
        place = f"{name}:{line}:{column}" if line else name if message.startswith(field) else f"{name}: {field}"
        suggestion = one.get("suggestion")
        is_said = any(f"write {word}" in message for word in (suggestion, json.dumps(suggestion)))
        lines.append(
            f"{place}: {message}" + ("" if suggestion is None or is_said else f" (did you mean {suggestion}?)")
        )
    return lines


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True
