"""The `run` agent: a command, or a script for bash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator import outcomes
from orchestrator.manifest import Manifest
from orchestrator.models import Input
from orchestrator.outcomes import Outcome
from workers.agents.port import Launch, Places, Reader, Session


class RunAgent:
    """See `Agent`."""

    name = "run"
    needs_model = False
    session_paths: Sequence[str] = ()

    def image(self, manifest: Manifest) -> str | None:
        return manifest.run.image if manifest.run else None

    def script(self, manifest: Manifest) -> str | None:
        return manifest.run.script if manifest.run else None

    def probe(self) -> Sequence[str] | None:
        return None

    def judge_probe(self, exit_code: int, output: str, image: str, profile: str) -> Outcome | None:  # noqa: ARG002
        return None

    def launch(
        self,
        manifest: Manifest,
        places: Places,
        secrets: Mapping[str, str],  # noqa: ARG002 - it has them in its environment
        session_id: str,  # noqa: ARG002 - it has no sessions
        resumed: Session | None,  # noqa: ARG002
    ) -> Launch:
        if manifest.run is None:
            raise ValueError(f"task {manifest.id} is no `run` task")
        if manifest.run.script is not None:
            return Launch(["bash", "-euo", "pipefail", places.script], manifest.run.env)
        return Launch(manifest.run.command or (), manifest.run.env)

    def reader(self, manifest: Manifest, seen: Mapping[str, Any] | None) -> Reader | None:  # noqa: ARG002
        return None

    def said(self, given: Input) -> str:
        raise ValueError(f"input {given.number} cannot be told to a command: only an interactive agent takes input")

    def answer(self, lines: Sequence[bytes]) -> str | None:  # noqa: ARG002 - its output is its answer
        return None

    def outcome(
        self,
        manifest: Manifest,
        exit_code: int,
        *,
        oom_killed: bool,
        seen: Mapping[str, Any] | None,  # noqa: ARG002 - nobody reads its output
    ) -> Outcome:
        return outcomes.of_exit(exit_code, oom_killed=oom_killed, memory=manifest.definition["vm"]["memory"])
