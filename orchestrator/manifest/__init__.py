"""Bytes → document → schema → rules → `Manifest`, or every error at once with line and column."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from orchestrator import documents
from orchestrator.documents import DocumentTooLarge, UnsupportedContentType
from orchestrator.documents.parts import MAX_PROBLEMS, Path, Positions, big_number, scalars, unstorable
from orchestrator.manifest import rules, schema
from orchestrator.manifest.errors import (
    Finding,
    InvalidManifest,
    ManifestError,
    field_name,
    invalid_manifest,
    json_pointer,
    type_name,
)
from orchestrator.manifest.policy import ManifestPolicy
from orchestrator.manifest.sections import Claude, Lifecycle, Notify, Repository, Retry, Run, Secret, Vm

__all__ = [
    "Claude",
    "DocumentTooLarge",
    "InvalidManifest",
    "Lifecycle",
    "Manifest",
    "ManifestError",
    "ManifestPolicy",
    "Notify",
    "Repository",
    "Retry",
    "Run",
    "Secret",
    "UnsupportedContentType",
    "Vm",
    "check",
    "parse",
    "read_object",
]


@dataclass(frozen=True)
class Manifest:
    """A valid manifest. `definition` has all defaults filled in and is what the store keeps; never change it.

    An absent section without a default (`repository`, `claude`, `run`) stays absent in `definition`, and of
    `run.command` and `run.script` only the given one is there, so a definition is itself a valid manifest.
    """

    definition: dict[str, Any]

    @classmethod
    def from_definition(cls, definition: Mapping[str, Any]) -> Manifest:
        """Return the manifest of a stored definition, without judging it again.

        Fields that a later version of the format added get their defaults.
        """
        return cls(schema.with_defaults(dict(definition)))

    @property
    def id(self) -> str | None:
        """The id the user chose; None leaves it to the server."""
        chosen: str | None = self.definition["metadata"]["id"]
        return chosen

    @property
    def agent(self) -> str:
        """Which of the two kinds of task it is: `claude` or `run`."""
        return "claude" if "claude" in self.definition else "run"

    @property
    def name(self) -> str:
        name: str = self.definition["metadata"]["name"]
        return name

    @property
    def labels(self) -> dict[str, str]:
        labels: dict[str, str] = self.definition["metadata"]["labels"]
        return labels

    @property
    def priority(self) -> int:
        priority: int = self.definition["priority"]
        return priority

    @property
    def parent_id(self) -> str | None:
        parent: str | None = self.definition["parent_id"]
        return parent

    @cached_property
    def repository(self) -> Repository | None:
        section = self.definition.get("repository")
        return None if section is None else Repository.from_definition(section)

    @cached_property
    def run(self) -> Run | None:
        section = self.definition.get("run")
        return None if section is None else Run.from_definition(section)

    @cached_property
    def claude(self) -> Claude | None:
        section = self.definition.get("claude")
        return None if section is None else Claude.from_definition(section)

    @cached_property
    def vm(self) -> Vm:
        return Vm.from_definition(self.definition["vm"])

    @cached_property
    def secrets(self) -> tuple[Secret, ...]:
        return tuple(Secret(**entry) for entry in self.definition["secrets"])

    @cached_property
    def notify(self) -> tuple[Notify, ...]:
        return tuple(Notify.from_definition(entry) for entry in self.definition["notify"])

    @cached_property
    def lifecycle(self) -> Lifecycle:
        return Lifecycle.from_definition(self.definition["lifecycle"])


def parse(body: bytes, content_type: str, *, policy: ManifestPolicy) -> Manifest:
    """Return the manifest in `body`.

    Raises `UnsupportedContentType`, `DocumentTooLarge`, or `InvalidManifest` with every error.
    """
    try:
        document = documents.read(body, content_type)
    except documents.InvalidDocument as refusal:
        raise InvalidManifest(_error(problem) for problem in refusal.problems) from refusal
    if isinstance(document.data, dict):
        schema.restore_texts(document.data, document.plain)
    return _judged(document.data, policy, document.locate)


MERGE_PATCH = "application/merge-patch+json"


def read_object(body: bytes, content_type: str) -> dict[str, Any]:
    """Return the map in a body that is no manifest: a merge patch, or options. Raises what `parse` raises."""
    plain = "application/json" if content_type.partition(";")[0].strip() == MERGE_PATCH else content_type
    try:
        data = documents.read(body, plain).data
    except documents.InvalidDocument as refusal:
        raise InvalidManifest(_error(problem) for problem in refusal.problems) from refusal
    if not isinstance(data, dict):
        raise invalid_manifest([Finding((), "type", f"the body is {type_name(data)}: it must be a map")], None)
    return data


def check(data: dict[str, Any], *, policy: ManifestPolicy, positions: Positions | None = None) -> Manifest:
    """Return the manifest of plain data that comes from no text: a rerun's definition with its changes.

    `data` is not changed. Raises `InvalidManifest` with every error.
    """
    unusable = [finding for path, value in scalars(data) if (finding := _unusable(path, value)) is not None]
    if unusable:
        raise invalid_manifest(unusable, positions)
    return _judged(deepcopy(data), policy, lambda: positions)


def _judged(data: Any, policy: ManifestPolicy, locate: Callable[[], Positions | None]) -> Manifest:
    if not isinstance(data, dict):
        message = f'the manifest is {type_name(data)}: it must be a map; begin with version: "1" and kind: Task'
        raise invalid_manifest([Finding((), "type", message)], locate())
    findings = schema.findings(data)
    broken = {finding.path for finding in findings}
    by_rules = (found for found in rules.findings(data, policy) if found.path not in broken)
    findings += islice(by_rules, MAX_PROBLEMS)
    if findings:
        raise invalid_manifest(findings, locate())
    definition = schema.with_defaults(data)
    definition["metadata"]["id"] = definition["metadata"]["id"] or None
    return Manifest(definition)


def _unusable(path: Path, value: Any) -> Finding | None:
    """Return why no store could keep `value`; the readers of texts refuse these by themselves."""
    problem = unstorable(value) if isinstance(value, str) else None
    if isinstance(value, int | float) and not -(2.0**63) <= value < 2.0**63:
        problem = big_number(str(value) if isinstance(value, float) else "with too many digits", None)
    if problem is None:
        return None
    return Finding(path, problem.validation, f"{field_name(path) or 'the manifest'}: {problem.message}")


def _error(problem: documents.Problem) -> ManifestError:
    position = problem.position
    return ManifestError(
        field=field_name(problem.path),
        pointer=json_pointer(problem.path),
        line=position.line if position else None,
        column=position.column if position else None,
        validation=problem.validation,
        message=problem.message,
    )
