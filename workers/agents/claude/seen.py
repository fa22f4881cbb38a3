"""What is known of the agent's run, with what only its own reader needs to go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from workers.agents.port import Seen

MAX_KEPT = 200
"""Of open tools, background work and the like: a stranger's output decides how much of it there is."""
MAX_PROBLEMS = 20


@dataclass
class ClaudeSeen(Seen):
    """`message_id` is the model's last answer, `servers` the last status of each MCP server, `questions` the tool call
    that each open question is about, `task_types` the kind of each work in the background. `resting`: a turn has ended,
    and no other is known to begin. `asked` counts its questions.
    """

    message_id: str | None = None
    servers: dict[str, str] = field(default_factory=dict)
    questions: dict[str, str] = field(default_factory=dict)
    task_types: dict[str, str] = field(default_factory=dict)
    resting: bool = False
    asked: int = 0

    @classmethod
    def load(cls, stored: Mapping[str, Any] | None) -> ClaudeSeen:
        """What was stored, by this version of the product or another."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in (stored or {}).items() if name in known})

    def add_problem(self, problem: str) -> None:
        if problem not in self.problems and len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)


def keep(entries: dict[str, Any], name: str, entry: object) -> None:
    """Add an entry; the oldest ones make room."""
    entries[name] = entry
    while len(entries) > MAX_KEPT:
        del entries[next(iter(entries))]
