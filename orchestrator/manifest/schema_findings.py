"""The schema library's errors → findings in plain words, one function a keyword."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from jsonschema import ValidationError

from orchestrator.documents.parts import MAX_PROBLEMS, Path
from orchestrator.manifest.errors import Finding, closest, field_name, shown, type_name
from orchestrator.outcomes import Reason

_WORDS = {
    "object": "a map",
    "array": "a list",
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


@dataclass(frozen=True, slots=True)
class _Broken:
    """One keyword of the schema that a value breaks; `limit` is what the schema gives for it."""

    path: Path
    keyword: str
    limit: Any
    value: Any
    schema: dict[str, Any]
    is_key: bool

    @property
    def name(self) -> str:
        return field_name(self.path) or "the manifest"

    @property
    def example(self) -> str:
        """What to do, by the first example of the schema, else by its default."""
        examples = self.schema.get("examples") or [self.schema.get("default")]
        if examples[0] is None:
            return "correct it"
        return f"write for example {json.dumps(examples[0], ensure_ascii=False)}"

    def finding(self, validation: str, why: str, advice: str, suggestion: str | None = None) -> Finding:
        """Return the finding about the value itself."""
        message = f"{self.name} is {shown(self.value, self.path)}: {why}; {advice}"
        return Finding(self.path, validation, message, suggestion)


def findings_of(error: ValidationError) -> Iterable[Finding]:
    """Return the findings that one error of the schema library stands for: none, one or several.

    Two errors may stand for the same finding.
    """
    broken = _Broken(
        path=tuple(error.absolute_path),
        keyword=str(error.validator),
        limit=error.validator_value,
        value=error.instance,
        schema=error.schema if isinstance(error.schema, dict) else {},
        is_key="propertyNames" in error.absolute_schema_path,
    )
    return _TRANSLATORS[broken.keyword](broken)


def _wrong_type(broken: _Broken) -> Iterator[Finding]:
    wanted = [broken.limit] if isinstance(broken.limit, str) else broken.limit
    must = f"it must be {' or '.join(_WORDS[name] for name in wanted)}"
    value, kind = broken.value, type_name(broken.value)
    if value is None:
        advice = f"leave it out for the default, or {broken.example}"
    elif "string" in wanted and not isinstance(value, dict | list):
        advice = "put it in quotes"
    else:
        advice = broken.example
    found = shown(value, broken.path)
    found = found if found == kind else f"{found}, {kind}"
    yield Finding(broken.path, "type", f"{broken.name} is {found}: {must}; {advice}")


def _missing(broken: _Broken) -> Iterator[Finding]:
    # The library comes once for each missing name and says which in its message only, so each time all
    # of them are yielded; the caller drops what it has already.
    for name in broken.limit:
        if name not in broken.value:
            yield _missing_field(broken, name, needed_by=broken.name)


def _missing_beside(broken: _Broken) -> Iterator[Finding]:
    for name, needed in broken.limit.items():
        for one in needed:
            if name in broken.value and one not in broken.value:
                yield _missing_field(broken, one, needed_by=name)


def _missing_field(broken: _Broken, name: str, *, needed_by: str) -> Finding:
    path = (*broken.path, name)
    example = json.dumps(broken.schema["properties"][name]["examples"][0], ensure_ascii=False)
    message = f"{field_name(path)} is missing: {needed_by} needs it; add it, for example {name}: {example}"
    return Finding(path, "required", message)


def _unknown(broken: _Broken) -> Iterator[Finding]:
    known = list(broken.schema["properties"])
    free = [name for name in known if name not in broken.value]
    extras = (name for name in broken.value if name not in known)
    for number, name in enumerate(islice(extras, MAX_PROBLEMS)):
        path = (*broken.path, name)
        # Twenty suggestions help; a hundred cost more time than the whole refusal may take.
        suggestion = (closest(name, free) or closest(name, known)) if number < 20 else None
        advice = f"write {suggestion}" if suggestion else "remove it"
        if suggestion in broken.value:
            advice += ", which is given too: remove one of the two"
        message = f"{field_name(path)} is not a field: {broken.name} has {', '.join(known)}; {advice}"
        yield Finding(path, "unknown_field", message, suggestion)


def _not_one_of(broken: _Broken) -> Iterator[Finding]:
    if not isinstance(broken.value, str):
        return  # the wrong type has a finding of its own
    suggestion = closest(broken.value, broken.limit)
    if broken.value == Reason.CANCELLED and Reason.WORKER_LOST in broken.limit:
        yield broken.finding("enum", "a cancelled task is never run again", "remove it")
        return
    advice = f"write {suggestion}" if suggestion else "write one of these"
    yield broken.finding("enum", f"it must be one of {', '.join(broken.limit)}", advice, suggestion)


def _not_the_constant(broken: _Broken) -> Iterator[Finding]:
    if isinstance(broken.value, str):  # the wrong type has a finding of its own
        wanted = json.dumps(broken.limit)
        yield broken.finding("const", f"only {wanted} is known", f"write {wanted}", broken.limit)


def _wrong_form(broken: _Broken) -> Iterator[Finding]:
    form = f"it must be {broken.schema['x-form']}"
    if broken.is_key:
        message = f"the key {shown(broken.value)} of {broken.name} is not valid: {form}; rename it"
        yield Finding((*broken.path, broken.value), "key_form", message)
    else:
        yield broken.finding("pattern", form, broken.example)


def _out_of_range(broken: _Broken) -> Iterator[Finding]:
    high = broken.schema["maximum"]
    if "exclusiveMinimum" in broken.schema:
        must = f"it must be more than {broken.schema['exclusiveMinimum']} and at most {high}"
    else:
        must = f"it must be from {broken.schema['minimum']} to {high}"
    yield broken.finding("range", must, broken.example)


def _wrong_length(broken: _Broken) -> Iterator[Finding]:
    unit = "characters" if isinstance(broken.value, str) else "entries"
    bound, advice = ("at most", "shorten it") if broken.keyword.startswith("max") else ("at least", broken.example)
    must = f"it must have {bound} {broken.limit:,}"
    yield Finding(broken.path, "length", f"{broken.name} has {len(broken.value):,} {unit}: {must}; {advice}")


def _not_exactly_one(broken: _Broken) -> Iterator[Finding]:
    if not isinstance(broken.value, dict):
        return  # the wrong type has a finding of its own
    names = [branch["required"][0] for branch in broken.limit]
    both = all(name in broken.value for name in names)
    has = f"has both {' and '.join(names)}" if both else f"has neither {' nor '.join(names)}"
    advice = "remove one" if both else "add one"
    message = f"{broken.name} {has}: exactly one of them says what to run; {advice}"
    yield Finding(broken.path, "exactly_one", message)


_TRANSLATORS: dict[str, Callable[[_Broken], Iterator[Finding]]] = {
    "type": _wrong_type,
    "required": _missing,
    "dependentRequired": _missing_beside,
    "additionalProperties": _unknown,
    "enum": _not_one_of,
    "const": _not_the_constant,
    "pattern": _wrong_form,
    "minimum": _out_of_range,
    "exclusiveMinimum": _out_of_range,
    "maximum": _out_of_range,
    "minLength": _wrong_length,
    "maxLength": _wrong_length,
    "minItems": _wrong_length,
    "maxItems": _wrong_length,
    "maxProperties": _wrong_length,
    "oneOf": _not_exactly_one,
}
