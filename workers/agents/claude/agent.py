"""The `claude` agent: the product's side of the coding agent's command line interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.manifest import Claude, Manifest
from orchestrator.models import Input
from orchestrator.outcomes import Outcome
from workers.agents.claude import command, ending, probing
from workers.agents.claude.input_lines import input_line
from workers.agents.claude.results import final_answer
from workers.agents.claude.stream import ClaudeReader
from workers.agents.port import Launch, Places, Session


class ClaudeAgent:
    """See `Agent`."""

    name = "claude"
    needs_model = True
    session_paths: Sequence[str] = (".claude/projects", ".claude/tasks")

    def image(self, manifest: Manifest) -> str | None:  # noqa: ARG002 - the manifest cannot name one
        return None

    def script(self, manifest: Manifest) -> str | None:  # noqa: ARG002 - it runs none
        return None

    def probe(self) -> Sequence[str] | None:
        return probing.PROBE

    def judge_probe(self, exit_code: int, output: str, image: str, profile: str) -> Outcome | None:
        return probing.judge(exit_code, output, image, profile)

    def launch(
        self, manifest: Manifest, places: Places, secrets: Mapping[str, str], session_id: str, resumed: Session | None
    ) -> Launch:
        return command.launch(_claude(manifest), places, secrets, session_id, resumed)

    def reader(self, manifest: Manifest, seen: Mapping[str, Any] | None) -> ClaudeReader:
        return ClaudeReader(_claude(manifest), seen)

    def said(self, given: Input) -> str:
        return input_line(given)

    def answer(self, lines: Sequence[bytes]) -> str | None:
        return final_answer(lines)

    def outcome(
        self, manifest: Manifest, exit_code: int, *, oom_killed: bool, seen: Mapping[str, Any] | None
    ) -> Outcome:
        memory = manifest.definition["vm"]["memory"]
        return ending.outcome(exit_code, oom_killed=oom_killed, memory=memory, seen=seen)


def _claude(manifest: Manifest) -> Claude:
    if manifest.claude is None:
        raise ValueError(f"task {manifest.id} is no `claude` task")
    return manifest.claude
