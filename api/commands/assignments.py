"""`--set path=value`: one change to a manifest, named on the command line (pure).

A path is keys joined by dots, `[n]` for the n-th member of a list (its length appends one) and `["key"]`
for a key that holds dots. A value is what it would be unquoted in YAML 1.2; one that begins with `{`, `[`
or `"` is JSON; nothing at all is the empty text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import click

from orchestrator.documents.scalars import resolved

_STEP = re.compile(r'\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\]|(?:^|\.)([^.\[\]=]+)')
Step = str | int


@dataclass(frozen=True, slots=True)
class Assignment:
    """`value` goes to `path`; `plain` is how a number or boolean was spelled."""

    path: tuple[Step, ...]
    value: Any
    plain: str | None = None

    @property
    def text(self) -> str:
        return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path).lstrip(".")


def assignment(text: str) -> Assignment:
    """Return the assignment in an option's value; raise `BadParameter` when it is none."""
    try:
        return parsed(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


set_option = click.option(
    "--set",
    "assignments",
    type=assignment,
    metavar="PATH=VALUE",
    multiple=True,
    help="Change the manifest first, e.g. --set vm.memory=2G --set run.command[0]=ls; repeatable. "
    'A value that begins with {, [ or " is JSON.',
)


def parsed(text: str) -> Assignment:
    """Return the assignment in `text`; raise `ValueError` with the reason when it is none."""
    steps: list[Step] = []
    at = 0
    while at < len(text) and text[at] != "=":
        step = _STEP.match(text, at)
        if step is None or (at == 0 and (step[1] is not None or text.startswith("."))):
            break
        steps.append(int(step[1]) if step[1] is not None else json.loads(step[2]) if step[2] else step[3])
        at = step.end()
    if not steps or text[at : at + 1] != "=":
        raise ValueError(f"{text!r} is not path=value: write for example vm.memory=2G or run.command[0]=ls")
    return _with_value(tuple(steps), text[at + 1 :])


def _with_value(path: tuple[Step, ...], text: str) -> Assignment:
    if text.startswith(("{", "[", '"')):
        try:
            return Assignment(path, json.loads(text))
        except ValueError as error:
            raise ValueError(f"{text!r} begins like JSON and is none: {error}; correct or quote it") from error
    if not text:
        return Assignment(path, "")
    try:
        value = resolved(text)
    except ValueError:
        raise ValueError(f"the number {text!r} does not fit into 64 bits; write it in quotes as text") from None
    return Assignment(path, value, text if isinstance(value, (bool, int, float)) else None)


def assign(data: Any, assignment: Assignment) -> Any:
    """Return `data` with one assignment made; maps that are missing on the way are made.

    Raises `UsageError` when the path meets something that is neither map nor list, or leaves a list.
    """
    copy = deepcopy(data) if isinstance(data, dict) else {}
    place: Any = copy
    for step, following in zip(assignment.path, assignment.path[1:], strict=False):
        inner = place[step] if _holds(place, step, assignment) else None
        if inner is None:
            inner = [] if isinstance(following, int) else {}
            _put(place, step, inner, assignment)
        place = inner
    _put(place, assignment.path[-1], assignment.value, assignment)
    return copy


def _holds(place: Any, step: Step, assignment: Assignment) -> bool:
    """Say whether `step` leads on from `place`; raise `UsageError` when it cannot."""
    if isinstance(step, int) and isinstance(place, list) and step <= len(place):
        return step < len(place)
    if isinstance(step, str) and isinstance(place, dict):
        return step in place
    found = "a map" if isinstance(place, dict) else "a single value"
    if isinstance(place, list):
        found = f"a list of {len(place)}"
    raise click.UsageError(
        f"--set {assignment.text}: {step!r} does not lead on, because there stands {found}. "
        "Use a key in a map, [n] in a list, at most the list's length."
    )


def _put(place: Any, step: Step, value: Any, assignment: Assignment) -> None:
    if not _holds(place, step, assignment) and isinstance(step, int):
        place.append(value)
    else:
        place[step] = value


def assign_all(data: Any, assignments: Sequence[Assignment]) -> Any:
    """Return `data` with all assignments made; a number where the schema wants text stays as spelled.

    Raises `UsageError` as `assign` does.
    """
    from orchestrator.manifest.schema import restore_texts  # noqa: PLC0415 - slow to import, rarely wanted

    for one in assignments:
        data = assign(data, one)
        if one.plain is not None:
            restore_texts(data, {one.path: one.plain})
    return data


def merge_patch(definition: dict[str, Any], assignments: Sequence[Assignment]) -> dict[str, Any]:
    """Return the JSON merge patch (RFC 7396) that makes the assignments to `definition`.

    A patch cannot name a member of a list, so a list with a changed member goes into it whole.
    """
    changed = assign_all(definition, assignments)
    patch: dict[str, Any] = {}
    for one in assignments:
        length = next((at for at, step in enumerate(one.path) if isinstance(step, int)), len(one.path))
        value = changed
        for step in one.path[:length]:
            value = value[step]
        patch = assign(patch, Assignment(one.path[:length], value))
    return patch
