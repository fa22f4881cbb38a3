"""What the real agent has printed in known situations (`tests/fixtures/claude`), and what its reader makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestrator.manifest import Manifest
from orchestrator.models import Question
from orchestrator.outcomes import Outcome
from workers.agents.claude import ClaudeAgent
from workers.agents.port import AgentEvent, Seen

STREAMS = Path(__file__).parents[2] / "fixtures" / "claude"
EXIT_CODES: dict[str, int] = json.loads((STREAMS / "exit_codes.json").read_text())
AGENT = ClaudeAgent()
STARTED_AT = 1_700_000_000.0


def manifest(**claude: Any) -> Manifest:
    return Manifest.from_definition(
        {"version": "1", "kind": "Task", "metadata": {"name": "n"}, "claude": {"prompt": "Do it.", **claude}}
    )


def lines_of(name: str) -> list[bytes]:
    return (STREAMS / f"{name}.jsonl").read_bytes().splitlines()


@dataclass(frozen=True)
class Told:
    """All that the lines of a run told together."""

    events: list[AgentEvent]
    asked: list[Question]
    withdrawn: list[str]
    shown: bytes
    seen: Seen

    def hold(self) -> None:
        """Fail unless all of it is JSON as every store takes it: finite numbers, whole characters, no NUL."""
        bodies = [dict(event.body) for event in self.events] + [one.request for one in self.asked] + [asdict(self.seen)]
        json.dumps(bodies, allow_nan=False, ensure_ascii=False).encode()
        texts = [text for one in (*bodies, *map(asdict, self.asked)) for text in _texts(one)]
        assert not [text for text in texts if "\0" in text]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [dict(event.body) for event in self.events if event.type == kind]


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for one in (*value, *value.values()) if isinstance(value, dict) else value:
            yield from _texts(one)


def read(lines: list[bytes], *, seconds_a_line: float = 1.0, **claude: Any) -> Told:
    """Read lines that came `seconds_a_line` after each other."""
    reader = AGENT.reader(manifest(**claude), None)
    told = [reader.read(line, STARTED_AT + number * seconds_a_line) for number, line in enumerate(lines)]
    return Told(
        [event for one in told for event in one.events],
        [question for one in told for question in one.asked],
        [each for one in told for each in one.withdrawn],
        b"".join(one.shown for one in told),
        reader.seen,
    )


def outcome_of(name: str) -> Outcome:
    """What the end of a recorded run means."""
    seen = asdict(read(lines_of(name)).seen)
    return AGENT.outcome(manifest(), EXIT_CODES[name], oom_killed=False, seen=seen)
