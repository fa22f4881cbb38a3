"""Of the journal's newest records, those that one selection asks for (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from api.stream.frames import Frame
from api.stream.selection import NEWEST_WINS, Selection
from orchestrator.models import Kind, Record, TaskFacts
from orchestrator.states import State

States = Mapping[str, State | None]
"""By task: the state that it is in before a page of records."""


def state_after(record: Record, before: State | None) -> State | None:
    """The state that a record belongs to: a state change to the one that it leads to."""
    return State(record.body["new_state"]) if record.kind is Kind.STATE_CHANGE else before


def pick(selection: Selection, frames: Sequence[Frame], tasks: Mapping[str, TaskFacts], states: States) -> list[Frame]:
    """The frames that are asked for, of records in their order.

    `tasks` has the facts of each frame's task. `states` is used, and the state changes must be among the frames, where
    the selection asks for states.
    """
    concerned = {task_id for task_id, task in tasks.items() if selection.concerns(task)}
    kinds, now = selection.kinds, dict(states) if selection.states else {}
    picked = []
    for frame in frames:
        record = frame.record
        if record is None or record.task_id not in concerned:
            continue
        if selection.states:
            state = now[record.task_id] = state_after(record, now.get(record.task_id))
            if state not in selection.states:
                continue
        if record.kind in kinds:
            picked.append(frame)
    return picked


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
