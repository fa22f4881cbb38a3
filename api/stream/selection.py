"""Which frames a reader of the event stream has asked for (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.models import Kind, TaskFacts
from orchestrator.states import State

KINDS: Mapping[str, tuple[Kind, ...]] = {
    "state_change": (Kind.STATE_CHANGE,),
    "output": (Kind.OUTPUT, Kind.SYSTEM, Kind.GAP),
    "progress": (Kind.PROGRESS,),
    "metrics": (Kind.METRICS,),
    "error": (Kind.ERROR,),
    "artifact": (Kind.ARTIFACT,),
    "event": (Kind.EVENT,),
}
"""What `filter` may name, and the records it stands for."""
TYPES = frozenset(KINDS)
NEWEST_WINS = frozenset({Kind.STATE_CHANGE, Kind.PROGRESS, Kind.METRICS})
"""Of these `rate_limit_ms` leaves the newest of an interval. Nothing of what a task says is ever left out."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Readers with equal selections share what is rendered. `owner`: of this owner's tasks only; None: of all."""

    types: frozenset[str] = TYPES
    task_id: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    states: frozenset[State] = frozenset()
    parent_id: str | None = None
    owner: str | None = None
    rate_limit_ms: int = 0

    @property
    def kinds(self) -> frozenset[Kind]:
        return frozenset(kind for one in self.types for kind in KINDS[one])

    @property
    def read_kinds(self) -> frozenset[Kind]:
        """What must be read to tell: who asks for states must see them change."""
        return self.kinds | {Kind.STATE_CHANGE} if self.states else self.kinds

    def concerns(self, task: TaskFacts) -> bool:
        """Tell whether the task is one of those asked for, whatever its state."""
        if self.task_id is not None and task.id != self.task_id:
            return False
        if self.owner is not None and task.owner != self.owner:
            return False
        if self.parent_id is not None and task.parent_id != self.parent_id:
            return False
        return all(task.labels.get(key) == value for key, value in self.labels)
