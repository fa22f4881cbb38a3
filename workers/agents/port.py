"""The port of an agent: what is run in the sandbox, and what its end means (design §6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.manifest import Manifest
from orchestrator.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class Launch:
    """What the gate lets go: argv and environment. `script`, if any, is put into the inbox first."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


class Agent(Protocol):
    """Stateless; pure. `name` is the manifest's key."""

    name: str

    def image(self, manifest: Manifest) -> str | None:
        """The image the manifest asks for, or None for the profile's."""

    def script(self, manifest: Manifest) -> str | None:
        """A file to put into the sandbox, or None."""

    def launch(self, manifest: Manifest, script_path: str | None) -> Launch:
        """What to run. `script_path` is where `script` lies inside the sandbox."""

    def outcome(self, manifest: Manifest, exit_code: int, *, oom_killed: bool) -> Outcome:
        """What an end by itself means."""
