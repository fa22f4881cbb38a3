"""The port of an agent: what is run in the sandbox, what its output tells, and what its end means (design §6).

Nothing outside `workers/agents` knows which agent it drives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from orchestrator.manifest import Manifest
from orchestrator.models import Input, Question
from orchestrator.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class Places:
    """Where things lie inside the sandbox. `script`: the text of `Agent.script`; `private`: a directory on a tmpfs
    that only the sandbox's user can read; `inbox`: where what is sent to an interactive agent appears.
    """

    script: str
    private: str
    inbox: str


@dataclass(frozen=True, slots=True)
class Session:
    """An agent's session of an earlier task, which this one goes on from."""

    id: str


@dataclass(frozen=True, slots=True)
class Launch:
    """What the gate lets go.

    `files` (path to text) are written first, below `Places.private`. `stdin` is a path that the command reads;
    None is `/dev/null`. `feeds_inbox`: it reads what appears in the inbox instead, `stdin` first.
    """

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    stdin: str | None = None
    feeds_inbox: bool = False


@dataclass(frozen=True, slots=True)
class AgentEvent:
    """Something the agent did or met: `type`, and what belongs to it (JSON)."""

    type: str
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    """What one line of the agent's standard output tells.

    `shown` is what stands for it in the task's own output, where lines are not shown as they are. `asked` are
    questions that now wait for an answer, `withdrawn` the ids of those that do not any more.
    """

    events: Sequence[AgentEvent] = ()
    asked: Sequence[Question] = ()
    withdrawn: Sequence[str] = ()
    shown: bytes = b""


@dataclass
class Seen:
    """What is known of an agent's run from its output so far: small, JSON, stored with the output itself.

    `taken` are the numbers of the inputs that it has taken in; `idle`: it has nothing left to do. `result` is the
    last one it gave: `is_error`, `subtype`, `reason`, `status`, and the beginning of its text. Costs and tokens are
    of the whole session, as the agent counts them.
    """

    session_id: str | None = None
    version: str | None = None
    turns: int = 0
    tool_calls: int = 0
    current_tool: str | None = None
    cost_usd: float | None = None
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    idle: bool = False
    taken: list[int] = field(default_factory=list)
    open_tools: dict[str, dict[str, Any]] = field(default_factory=dict)
    background: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Reader(Protocol):
    """Reads the lines of one run, in their order. `seen` is up to date after each.

    `shows_lines`: its lines stand in the task's own output as they are; else only what `Told.shown` says.
    """

    seen: Seen
    shows_lines: bool

    def read(self, line: bytes, at: float) -> Told:
        """Take one whole line, without its end, that was printed at `at` (Unix seconds). Never raises."""


class Agent(Protocol):
    """Stateless; pure. `name` is the manifest's key; `needs_model`: its sandbox is given the way to the model API.

    `session_paths`: what below HOME belongs to its session, which a later task can go on from; none: it has none.
    """

    name: str
    needs_model: bool
    session_paths: Sequence[str]

    def image(self, manifest: Manifest) -> str | None:
        """The image the manifest asks for, or None for the profile's."""

    def script(self, manifest: Manifest) -> str | None:
        """A file to put into the sandbox, or None."""

    def probe(self) -> Sequence[str] | None:
        """A command that shows whether an image can run this agent; None: every image can."""

    def judge_probe(self, exit_code: int, output: str, image: str, profile: str) -> Outcome | None:
        """What the end of `probe` means: None, or why the agent cannot run in this image."""

    def launch(
        self, manifest: Manifest, places: Places, secrets: Mapping[str, str], session_id: str, resumed: Session | None
    ) -> Launch:
        """What to run. `secrets` are the values that the command is given; `session_id` is a fresh UUID."""

    def reader(self, manifest: Manifest, seen: Mapping[str, Any] | None) -> Reader | None:
        """Reads what it prints, going on from `seen` (`asdict(Reader.seen)`); None: its output is only shown."""

    def said(self, given: Input) -> str:
        """The line that tells a running agent what a person has sent."""

    def answer(self, lines: Sequence[bytes]) -> str | None:
        """The final answer, as Markdown, in the last lines of its output; None when there is none."""

    def outcome(
        self, manifest: Manifest, exit_code: int, *, oom_killed: bool, seen: Mapping[str, Any] | None
    ) -> Outcome:
        """What an end by itself means. `seen` is `asdict(Reader.seen)`, None when it has no reader."""
