"""Frozen records: what the store hands out. Times are aware UTC datetimes, sizes bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from orchestrator.outcomes import Outcome
from orchestrator.states import TERMINAL, State


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write about one attempt: every later write names all three (design §2)."""

    task_id: str
    attempt: int
    fence: int


@dataclass(frozen=True, slots=True)
class Resources:
    """What a task asks for, or holds on a worker."""

    cpus: float
    memory_bytes: int
    disk_bytes: int

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            self.cpus + other.cpus,
            self.memory_bytes + other.memory_bytes,
            self.disk_bytes + other.disk_bytes,
        )


@dataclass(frozen=True, slots=True)
class Cancellation:
    """A stored intention (contract §4)."""

    requested_at: datetime
    requested_by: str
    reason: str | None
    force: bool
    previous_state: State


@dataclass(frozen=True, slots=True)
class Resumption:
    """That a task goes on from the workspace and the agent session of another, which had cost `cost_usd` by then."""

    task_id: str
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What never changes of a task, and decides who hears of it."""

    id: str
    name: str
    labels: dict[str, str]
    parent_id: str | None
    owner: str | None


@dataclass(frozen=True, slots=True)
class ListedTask:
    """What a list shows of a task. A definition may have 2 MiB, so it is in `Task` alone.

    `owner`: whose token submitted it; None: nobody's, the API was open. `tool_calls` are of an agent in its present
    attempt; `resumed_from`: the task whose workspace and agent session it goes on from. `progress_percent` (0 to
    100) and `progress_text` are what its command has said with `::progress` in its present attempt.
    """

    id: str
    name: str
    labels: dict[str, str]
    priority: int
    parent_id: str | None
    owner: str | None
    state: State
    state_message: str | None
    attempt: int
    worker: str | None
    created_at: datetime
    started_at: datetime | None
    state_changed_at: datetime
    finished_at: datetime | None
    exit_code: int | None
    output_bytes: int
    last_activity_at: datetime | None
    tool_calls: int
    current_tool: str | None
    resumed_from: str | None
    progress_percent: float | None
    progress_text: str | None

    @property
    def is_terminal(self) -> bool:
        return self.state in TERMINAL


@dataclass(frozen=True, slots=True)
class Task(ListedTask):
    """All of a task: what `GET /tasks/{id}` shows, and what decides about it.

    `input_closed` is the attempt whose agent takes no input any more; `resumed_cost_usd` what the session that the
    task goes on from had cost before; `outputs` what its command has said with `::output` in its present attempt.
    """

    rerun_of: str | None
    definition: dict[str, Any]
    fence: int
    requested: Resources
    counted_attempts: int
    uncounted_losses: int
    preserve_until: datetime | None
    purged_at: datetime | None
    outcome: Outcome | None
    applied: dict[str, Any] | None
    cancellation: Cancellation | None
    next_seq: int
    resumed_cost_usd: float | None
    input_closed: int | None
    outputs: dict[str, str] | None

    @property
    def claim(self) -> Claim:
        return Claim(self.id, self.attempt, self.fence)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a task on one worker. `spool_offset` is how far its output is in the journal.

    `running_clock` is when it began to run by the host's own boot clock (`workers.boot_clock`). `uncollected`: it
    has ended, and its log's tail and artifacts may still lie on its worker's host. `agent` is what its output tells
    of an agent's run, `model_usage` what the worker's relay to the model API counted, `session` where its agent's
    session and workspace are stored: `key`, `size_bytes`, `sha256`, `agent_session_id`, `commit`, `cost_usd`. What its
    sandbox used (`cpu_seconds` and the peaks) is as of the last look at it; null before the first.
    """

    task_id: str
    number: int
    fence: int
    worker: str
    state: State
    claimed_at: datetime
    running_at: datetime | None
    finished_at: datetime | None
    outcome: Outcome | None
    applied: dict[str, Any] | None
    image: str | None
    image_digest: str | None
    commit: str | None
    sandbox: str | None
    verdict: dict[str, Any] | None
    spool_offset: str | None
    output_bytes: int
    dropped_bytes: int
    preserved: bool
    running_clock: str | None = None
    uncollected: bool = False
    bytes_up: int = 0
    bytes_down: int = 0
    agent: dict[str, Any] | None = None
    model_usage: dict[str, Any] | None = None
    session: dict[str, Any] | None = None
    cpu_seconds: float | None = None
    memory_peak_bytes: int | None = None
    disk_peak_bytes: int | None = None

    @property
    def claim(self) -> Claim:
        return Claim(self.task_id, self.number, self.fence)


class WorkerState(StrEnum):
    ACTIVE = "active"
    STOPPED = "stopped"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Overcommit:
    """How many times the host's size placement may promise."""

    cpus: float
    memory: float
    disk: float


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as it registered. `host` is the machine's size, before the overcommit factors.

    `host_id` tells machines apart: a name belongs to one. A draining worker takes nothing; what it has after
    `drain_until` (None: no deadline) it ends.
    """

    name: str
    state: WorkerState
    slots: int
    host: Resources
    overcommit: Overcommit
    profiles: tuple[str, ...]
    network_modes: tuple[str, ...]
    agents: tuple[str, ...]
    trouble: str | None
    heartbeat: int
    heartbeat_at: datetime
    registered_at: datetime
    host_id: str | None = None
    version: str | None = None
    draining: bool = False
    drain_until: datetime | None = None
    adopt_until: datetime | None = None

    @property
    def adopt_seconds(self) -> float:
        """How long the attempts of a stopped worker wait for it, from its goodbye on."""
        return (self.adopt_until - self.heartbeat_at).total_seconds() if self.adopt_until else 0.0


@dataclass(frozen=True, slots=True)
class Question:
    """What an interactive agent waits for. `kind`: `question`, `permission` or `message`; `options` are what it offers.

    `request` is the agent's own form of it, which an answer must repeat.
    """

    id: str
    asked_at: datetime
    kind: str
    text: str
    options: tuple[str, ...] = ()
    request: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Input:
    """What a person has sent to an agent: a `text`, or the `answer` to a question, whose `request` is repeated.

    `number` counts the inputs of a task from 1.
    """

    number: int
    at: datetime
    text: str | None = None
    question_id: str | None = None
    answer: str | None = None
    request: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stored file of a task. `path` is workspace-relative; `key` is the artifact store's."""

    task_id: str
    attempt: int
    path: str
    size_bytes: int
    content_type: str
    sha256: str
    created_at: datetime
    key: str

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


class Kind(StrEnum):
    """What a journal record tells."""

    STATE_CHANGE = "state_change"
    OUTPUT = "output"
    SYSTEM = "system"
    EVENT = "event"
    ARTIFACT = "artifact"
    GAP = "gap"
    METRICS = "metrics"
    """What a sandbox uses just now."""
    PROGRESS = "progress"
    """How far a task says it is, or what its agent does."""
    ERROR = "error"
    """Why an attempt failed."""

    @property
    def is_aside(self) -> bool:
        """True for what is no part of the task's log: it has a place in the event stream alone."""
        return self in (Kind.METRICS, Kind.PROGRESS, Kind.ERROR)


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A record before the journal gave it its place. `size` is how many sequence numbers it takes."""

    kind: Kind
    at: datetime
    stream: str | None = None
    body: dict[str, Any] = field(default_factory=dict)
    data: bytes | None = None
    size: int = 1


@dataclass(frozen=True, slots=True)
class Record:
    """A journal row. An output row holds many lines and spans `first_seq`..`last_seq`, one per line.

    Those of an aside are below zero: the log's own sequence is gapless without them. `transaction_id` and `position`
    are its place among the records of all tasks (`journal.Place`); 0 for a row that comes from the archive.
    """

    position: int
    task_id: str
    attempt: int
    first_seq: int
    last_seq: int
    at: datetime
    kind: Kind
    stream: str | None
    body: dict[str, Any]
    data: bytes | None
    transaction_id: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Webhook:
    """Who is told of what happens to tasks. `task_id`: of that task alone, whose manifest asked for it.

    `owner`: of whose tasks it hears, and who may see it; None: of everybody's. `created_by`: whose token made it; None:
    nobody's, the API was open. All of `labels` must match. `secret` signs what it is sent; "": nothing does.
    `failing_since`: nothing was delivered to it from then on.
    """

    id: str
    url: str
    events: tuple[str, ...]
    created_at: datetime
    secret: str = field(repr=False, default="")
    labels: dict[str, str] = field(default_factory=dict)
    task_id: str | None = None
    owner: str | None = None
    created_by: str | None = None
    failing_since: datetime | None = None
    disabled_at: datetime | None = None
    disabled_reason: str | None = None

    @property
    def origin(self) -> str:
        """Scheme, host and port: who is at the other end, whatever the address within."""
        parts = urlsplit(self.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return f"{parts.scheme}://{(parts.hostname or '').rstrip('.')}:{port}"


class DeliveryState(StrEnum):
    WAITING = "waiting"
    """It is to be sent, for the first time or again: `next_at`."""
    DELIVERED = "delivered"
    FAILED = "failed"
    """It is not sent any more, unless somebody asks for it."""


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """One event for one webhook, before it was given its number. `body` is what is sent, to the byte."""

    webhook_id: str
    event_id: str
    event: str
    task_id: str
    body: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one webhook; `number` counts those of a webhook from 1.

    `event_id` is what a receiver knows a repetition by. Of the last of its `tries`: `last_status`, the HTTP status
    (None: no answer), `last_error`, why it was none, and how long it took.
    """

    webhook_id: str
    number: int
    event_id: str
    event: str
    task_id: str
    body: str
    state: DeliveryState
    created_at: datetime
    tries: int = 0
    next_at: datetime | None = None
    tried_at: datetime | None = None
    last_status: int | None = None
    last_error: str | None = None
    last_milliseconds: int | None = None
