"""The published schema at work: validate, fill in defaults, restore texts that YAML took for numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from typing import Any

import jsonschema
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator

import schemas
from orchestrator.documents.parts import MAX_PROBLEMS, Path
from orchestrator.manifest.errors import Finding
from orchestrator.manifest.schema_findings import findings_of

Keyword = Callable[[Any, Any, Any, Any], Iterator[jsonschema.ValidationError] | None]


def prepare() -> None:
    """Build what the first manifest would else wait for, about 80 ms: a server calls it at its start."""
    findings({})


def findings(data: dict[str, Any]) -> list[Finding]:
    """Return what in `data` breaks the schema, at most `MAX_PROBLEMS` findings."""
    found: dict[Finding, None] = {}
    for error in _validator().iter_errors(data):
        found.update(dict.fromkeys(findings_of(error)))
        if len(found) >= MAX_PROBLEMS:
            break
    return list(found)[:MAX_PROBLEMS]


def with_defaults(data: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of valid `data` with all defaults filled in, keys in the schema's order.

    A section without a default (`repository`, `claude`, `run`) that is absent stays absent, and an
    integer written as `4.0` becomes one.
    """
    filled: dict[str, Any] = _filled(schemas.load(schemas.TASK), data)
    return filled


def restore_texts(data: dict[str, Any], plain: dict[Path, str]) -> None:
    """Put back, in place, the characters of unquoted scalars where the schema wants a string.

    To YAML a label `1.10` is a number and a commit `1234567` an integer. `version` is not touched: it
    must be written as a string.
    """
    for path, text in plain.items():
        field = _schema_at(path)
        if field is None or "const" in field or "string" not in _types(field):
            continue
        container: Any = data
        for step in path[:-1]:
            container = container[step]
        container[path[-1]] = text


def _schema_at(path: Path) -> dict[str, Any] | None:
    """Return the part of the schema that speaks about `path`, None where it is silent."""
    field: Any = schemas.load(schemas.TASK)
    for step in path:
        if isinstance(step, int):
            field = field.get("items")
        else:
            field = field.get("properties", {}).get(step) or field.get("additionalProperties")
        if not isinstance(field, dict):
            return None
    return field if path else None


def _types(field: dict[str, Any]) -> list[str]:
    types = field.get("type", [])
    return [types] if isinstance(types, str) else types


def _filled(field: dict[str, Any], value: Any) -> Any:
    if isinstance(value, dict) and "properties" in field:
        known = field["properties"]
        filled = {}
        for name, part in known.items():
            if name in value:
                filled[name] = _filled(part, value[name])
            elif "default" in part:
                filled[name] = _filled(part, part["default"])
        return filled | {name: deepcopy(rest) for name, rest in value.items() if name not in known}
    if isinstance(value, dict):
        part = field.get("additionalProperties")
        return {name: _filled(part, one) if isinstance(part, dict) else one for name, one in value.items()}
    if isinstance(value, list):
        return [_filled(field.get("items", {}), one) for one in value]
    if isinstance(value, float) and value.is_integer() and "integer" in _types(field):
        return int(value)
    return value


@cache
def _validator() -> Validator:
    """Build the validator once: checking the schema itself costs forty times a validation."""
    schema = schemas.load(schemas.TASK)
    Draft202012Validator.check_schema(schema)
    standard = Draft202012Validator.VALIDATORS
    bounded = {name: _unless_oversized(standard[name]) for name in ("items", "additionalProperties", "propertyNames")}
    extended = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
        Draft202012Validator, {**bounded, "pattern": _pattern}
    )
    made: Validator = extended(schema)
    return made


def _unless_oversized(keyword: Keyword) -> Keyword:
    """Leave out the entries of a list or map that is too long: its size alone refuses it."""

    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
        limit = schema.get("maxItems" if isinstance(instance, list) else "maxProperties")
        if limit is None or not isinstance(instance, list | dict) or len(instance) <= limit:
            yield from keyword(validator, value, instance, schema) or ()

    return check


def _pattern(_validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:
    if isinstance(instance, str) and not _compiled(pattern).search(instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile an ECMA pattern: there `$` is the end alone, in Python also before a last line break."""
    return re.compile(pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern)
