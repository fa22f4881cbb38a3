"""The `run` agent: a command, or a script for bash."""

from __future__ import annotations

from orchestrator import outcomes
from orchestrator.manifest import Manifest
from orchestrator.outcomes import Outcome
from workers.agents.port import Launch


class RunAgent:
    """See `Agent`."""

    name = "run"

    def image(self, manifest: Manifest) -> str | None:
        return manifest.run.image if manifest.run else None

    def script(self, manifest: Manifest) -> str | None:
        return manifest.run.script if manifest.run else None

    def launch(self, manifest: Manifest, script_path: str | None) -> Launch:
        if manifest.run is None:
            raise ValueError(f"task {manifest.id} is no `run` task")
        if script_path is not None:
            return Launch(["bash", "-euo", "pipefail", script_path], manifest.run.env)
        return Launch(manifest.run.command or (), manifest.run.env)

    def outcome(self, manifest: Manifest, exit_code: int, *, oom_killed: bool) -> Outcome:
        return outcomes.of_exit(exit_code, oom_killed=oom_killed, memory=manifest.definition["vm"]["memory"])
