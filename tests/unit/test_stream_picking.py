"""Which records a reader of the event stream is told of, and what a limit of rate leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from api.stream.frames import Frame, of_record
from api.stream.picking import newest_of_each, pick
from api.stream.selection import Selection
from orchestrator.models import Kind, Record, TaskFacts
from orchestrator.states import State

AT = datetime(2026, 1, 29, tzinfo=UTC)
RED = TaskFacts("red", "Red", {"team": "a", "kind": "x"}, None, "alice")
BLUE = TaskFacts("blue", "Blue", {"team": "b"}, "red", "bob")
TASKS = {one.id: one for one in (RED, BLUE)}


def frame(task: TaskFacts, kind: Kind, position: int, **body: Any) -> Frame:
    data = b"text\n" if kind is Kind.OUTPUT else None
    return of_record(Record(position, task.id, 1, position, position, AT, kind, "stdout", body, data), task)


def change(task: TaskFacts, state: State, position: int) -> Frame:
    return frame(task, Kind.STATE_CHANGE, position, previous_state=None, new_state=state.value, state_message=None)


def places(frames: Sequence[Frame]) -> list[int]:
    return [one.place.position for one in frames if one.place]


def picked(selection: Selection, frames: Sequence[Frame], before: State | None = None) -> list[int]:
    return places(pick(selection, frames, TASKS, dict.fromkeys(TASKS, before)))


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), [1, 2, 3]),
        (Selection(task_id="blue"), [2]),
        (Selection(labels=(("team", "a"),)), [1, 3]),
        (Selection(labels=(("team", "a"), ("kind", "y"))), []),
        (Selection(parent_id="red"), [2]),
        (Selection(owner="bob"), [2]),
        (Selection(types=frozenset({"metrics"})), [3]),
    ],
)
def test_a_selection_picks_by_task_and_type(selection: Selection, expected: list[int]) -> None:
    frames = [frame(RED, Kind.OUTPUT, 1), frame(BLUE, Kind.OUTPUT, 2), frame(RED, Kind.METRICS, 3)]
    assert picked(selection, frames) == expected


def test_what_happens_belongs_to_the_state_that_the_task_was_in() -> None:
    frames = [
        frame(RED, Kind.OUTPUT, 1),
        change(RED, State.COMPLETING, 2),
        frame(RED, Kind.OUTPUT, 3),
        change(RED, State.COMPLETED, 4),
    ]
    running, completing = frozenset({State.RUNNING}), frozenset({State.COMPLETING})
    assert picked(Selection(states=running), frames, State.RUNNING) == [1]
    assert picked(Selection(states=completing), frames, State.RUNNING) == [2, 3]
    assert picked(Selection(states=frozenset({State.COMPLETED})), frames, State.RUNNING) == [4]


def test_a_task_that_is_gone_is_not_told_of() -> None:
    gone = TaskFacts("gone", "Gone", {}, None, None)
    assert picked(Selection(), [frame(gone, Kind.OUTPUT, 1), frame(RED, Kind.OUTPUT, 2)]) == [2]


def test_the_newest_of_each_task_and_kind_stays_and_all_that_was_said() -> None:
    frames = [
        change(RED, State.READY, 1),
        frame(RED, Kind.METRICS, 2),
        frame(RED, Kind.OUTPUT, 3),
        change(BLUE, State.READY, 4),
        frame(RED, Kind.METRICS, 5),
        change(RED, State.RUNNING, 6),
        frame(RED, Kind.OUTPUT, 7),
        frame(RED, Kind.ERROR, 8, error="e"),
        frame(RED, Kind.ERROR, 9, error="e"),
    ]
    assert places(newest_of_each(frames)) == [3, 4, 5, 6, 7, 8, 9]


def test_the_end_of_a_task_is_never_left_out() -> None:
    frames = [change(RED, State.COMPLETING, 1), change(RED, State.COMPLETED, 2), change(BLUE, State.READY, 3)]
    assert places(newest_of_each(frames)) == [2, 3]
