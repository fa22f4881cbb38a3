"""Of the journal's newest records, those that one selection asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from api.stream.frames import Frame
from api.stream.selection import NEWEST_WINS, Selection
from orchestrator.models import Kind, Record, TaskFacts
from orchestrator.states import TERMINAL, State

StateBefore = Callable[[Record], State | None]
"""The state that a task was in when a record was written."""


class Picker:
    """Picks for one selection, from records that are given in their order. Not thread-safe."""

    def __init__(self, selection: Selection, state_before: StateBefore) -> None:
        self._selection = selection
        self._kinds = selection.kinds
        self._state_before = state_before
        self._states: dict[str, State | None] = {}

    def pick(self, frames: Sequence[Frame], tasks: Mapping[str, TaskFacts]) -> list[Frame]:
        """The frames that are asked for. `tasks` has the facts of each frame's task."""
        return [frame for frame in frames if frame.record is not None and self._wants(frame.record, tasks)]

    def _wants(self, record: Record, tasks: Mapping[str, TaskFacts]) -> bool:
        task = tasks.get(record.task_id)
        if task is None or not self._selection.concerns(task):
            return False
        if self._selection.states and self._state_at(record) not in self._selection.states:
            return False
        return record.kind in self._kinds

    def _state_at(self, record: Record) -> State | None:
        """A state change belongs to the state that it leads to."""
        if record.kind is Kind.STATE_CHANGE:
            state: State | None = State(record.body["new_state"])
        elif record.task_id in self._states:
            return self._states[record.task_id]
        else:
            state = self._state_before(record)
        if state in TERMINAL:  # of an ended task little follows: it need not be remembered
            self._states.pop(record.task_id, None)
        else:
            self._states[record.task_id] = state
        return state


def newest_of_each(frames: Sequence[Frame]) -> list[Frame]:
    """Without what a later frame of the same task and kind has overtaken.

    A task's end is its last state change, so it always stays. What a task says stays, and so does the order.
    """
    seen: set[tuple[str, Kind]] = set()
    left: list[Frame] = []
    for frame in reversed(frames):
        record = frame.record
        if record is not None and record.kind in NEWEST_WINS:
            if (record.task_id, record.kind) in seen:
                continue
            seen.add((record.task_id, record.kind))
        left.append(frame)
    return left[::-1]
