"""The tasks that `sandbox task watch` was asked for, and the frames of the event stream that are theirs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from api.client import Client, Event
from api.commands.listing import MAX_LIMIT
from api.commands.waiting import exit_code
from orchestrator.states import ACTIVE, TERMINAL

HEARTBEAT_INTERVAL_MS = 5000
Task = dict[str, Any]


@dataclass
class WatchedTasks:
    """Those of `ids`, or all that carry `labels`. Raises `NotFound` when there is none with one of the ids."""

    client: Client
    ids: tuple[str, ...]
    labels: Mapping[str, str]
    states: tuple[str, ...]
    known: dict[str, Task] = field(init=False)
    """Those of `ids`, as they were before anything else was asked."""
    _state_of: dict[str, str] = field(default_factory=dict, init=False)
    """Of those of `ids`: what was told last."""

    def __post_init__(self) -> None:
        self.known = {one: self.client.get(one) for one in self.ids}

    def _are_over(self) -> bool:
        return bool(self.ids) and all(self._state_of.get(one) in TERMINAL for one in self.ids)

    @property
    def exit_code(self) -> int:
        """What the command ends with, once all have ended."""
        return exit_code(self._state_of.values())

    def active(self) -> dict[str, Task]:
        """What a list shows of the tasks that a worker has now, as many as one answer holds."""
        found = self.client.list(states=sorted(ACTIVE), labels=self.labels, limit=MAX_LIMIT)
        return {task["id"]: task for task in found["tasks"]}

    def frames(self, kinds: Collection[str], *, states: Sequence[str] = (), rate_limit_ms: int = 0) -> Iterator[Event]:
        """Yield what the event stream tells of them, heartbeats too, until those of `ids` have ended.

        One that has ended before is told like one that was there before.
        """
        yield from self._found(self.known.values())
        if self._are_over():
            return
        is_told = False
        for event in self.client.events(
            self.ids[0] if len(self.ids) == 1 else None,
            filters=sorted(kinds),
            labels=self.labels,
            states=states,
            rate_limit_ms=rate_limit_ms,
            heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
            heartbeats=True,
        ):
            if event.kind == "gap" and event.task_id is None:  # an end may have been lost
                self._state_of = {one: state for one, state in self._state_of.items() if state in TERMINAL}
                is_told = False
            if event.task_id is None or not self.ids or event.task_id in self.ids:
                self._note(event)
                yield event
            if event.task_id is None and not is_told:
                yield from self._found(self.client.get(one) for one in self.ids if one not in self._state_of)
                is_told = True
            if self._are_over():
                return

    def _found(self, tasks: Iterable[Task]) -> Iterator[Event]:
        """Those of `tasks` that have ended, in the form of the snapshot, which names all others."""
        for task in tasks:
            if task["state"] in TERMINAL:
                event = Event(None, "state_change", task["id"], _as_found(task))
                self._note(event)
                yield event

    def _note(self, event: Event) -> None:
        if event.kind == "state_change" and event.task_id in self.ids:
            self._state_of[event.task_id] = str(event.body.get("new_state"))


def _as_found(task: Task) -> dict[str, Any]:
    told = {name: task.get(name) for name in ("attempt", "state_message", "name", "labels", "parent_id", "outcome")}
    return {
        "id": None,
        "type": "state_change",
        "task_id": task["id"],
        "timestamp": task.get("state_changed_at"),
        "previous_state": None,
        "new_state": task["state"],
        "preexisting": True,
        **told,
    }
