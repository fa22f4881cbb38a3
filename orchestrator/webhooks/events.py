"""Which events of tasks a webhook can hear of, and what it is sent about each (pure)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from orchestrator import clock
from orchestrator.models import Kind, Record, Task, TaskFacts, Webhook
from orchestrator.states import TERMINAL, State


class Event(StrEnum):
    STATE_CHANGE = "state_change"
    """A task was accepted, or has come into another state."""
    TERMINAL = "terminal"
    """A task has ended, after its last attempt."""
    ARTIFACT = "artifact"
    """An artifact of a task is stored."""
    INPUT_REQUIRED = "input_required"
    """The agent of a task waits for an answer."""


DEFAULT = (Event.TERMINAL.value,)
KINDS = (Kind.STATE_CHANGE, Kind.ARTIFACT, Kind.EVENT)
"""The journal records that are events."""


def chosen(names: Collection[str]) -> tuple[str, ...]:
    """Names of events, each once, in the order of `Event`."""
    return tuple(event.value for event in Event if event.value in names)


def events_of(record: Record) -> list[Event]:
    """The events that a journal record is."""
    if record.kind is Kind.STATE_CHANGE:
        ended = State(record.body["new_state"]) in TERMINAL
        return [Event.STATE_CHANGE, Event.TERMINAL] if ended else [Event.STATE_CHANGE]
    if record.kind is Kind.ARTIFACT:
        return [Event.ARTIFACT]
    asks = record.kind is Kind.EVENT and record.body.get("type") == Event.INPUT_REQUIRED.value
    return [Event.INPUT_REQUIRED] if asks else []


def hears(webhook: Webhook, record: Record, event: Event, of: TaskFacts) -> bool:
    """Whether a webhook is to be told of this. One that is not a task's own hears what came after it was made."""
    if event.value not in webhook.events:
        return False
    if webhook.task_id is not None:
        return webhook.task_id == of.id
    return (
        record.at >= webhook.created_at
        and webhook.owner in (None, of.owner)
        and webhook.labels.items() <= of.labels.items()
    )


def event_id(webhook: Webhook, record: Record, event: Event) -> str:
    """The id that a receiver knows a repetition by: the same whenever this record is told to this webhook.

    With the time, because a store that was restored from a backup gives its places out again.
    """
    parts = (webhook.id, record.task_id, str(record.first_seq), clock.text(record.at), event.value)
    return f"msg_{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:32]}"


def body_of(identity: str, record: Record, event: Event, task: Task) -> str:
    """The JSON that is sent: the event, and the task as it is now. No output, and none of its definition."""
    data = {"task": _shown(task), **_MORE[event](record, task)}
    told = {"id": identity, "type": f"task.{event.value}", "timestamp": clock.text(record.at), "data": data}
    return json.dumps(told, separators=(",", ":"))


def _shown(task: Task) -> dict[str, Any]:
    return {
        "id": task.id,
        "name": task.name,
        "state": task.state.value,
        "labels": task.labels,
        "parent_id": task.parent_id,
        "attempt": task.attempt,
        "worker": task.worker,
        "exit_code": task.exit_code,
        "outcome": task.outcome.to_dict() if task.outcome else None,
    }


def _moved(record: Record, _task: Task) -> dict[str, Any]:
    return {name: record.body.get(name) for name in ("previous_state", "new_state", "state_message")}


def _stored(record: Record, task: Task) -> dict[str, Any]:
    artifact: Mapping[str, Any] = record.body["artifact"]
    which = "" if record.attempt == task.attempt else f"?attempt={record.attempt}"
    url = f"/api/v1/tasks/{quote(task.id)}/artifacts/{quote(artifact['path'])}{which}"
    return {"artifact": {**artifact, "attempt": record.attempt, "download_url": url}}


def _asked(record: Record, _task: Task) -> dict[str, Any]:
    question = {name: record.body.get(name) for name in ("id", "kind", "text", "options")}
    return {"input_required": {**question, "asked_at": clock.text(record.at)}}


_MORE = {
    Event.STATE_CHANGE: _moved,
    Event.TERMINAL: _moved,
    Event.ARTIFACT: _stored,
    Event.INPUT_REQUIRED: _asked,
}
