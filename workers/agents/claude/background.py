"""Work that the agent does beside its conversation. It goes on with the conversation when such work has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.agents.claude.json_lines import name, objects
from workers.agents.claude.seen import MAX_KEPT, ClaudeSeen
from workers.agents.claude.summaries import one_line
from workers.agents.port import AgentEvent, Told


def changed(seen: ClaudeSeen, said: Mapping[str, Any], _at: float) -> Told:
    """All that runs now."""
    running = {name(one.get("task_id")): one for one in list(objects(said.get("tasks")))[:MAX_KEPT]}
    new = [one for task_id, one in running.items() if task_id not in seen.background]
    seen.background = list(running)
    seen.task_types = {task_id: name(one.get("task_type")) for task_id, one in running.items()}
    return Told([_event("started", name(one.get("task_type")), one.get("description")) for one in new])


def ended(seen: ClaudeSeen, said: Mapping[str, Any], _at: float) -> Told:
    """One is over; a long command in the foreground is announced like that, too."""
    task_id = name(said.get("task_id"))
    if task_id not in seen.background:
        return Told()
    seen.resting = False  # it is told to the model next
    return Told([_event(name(said.get("status")), seen.task_types.get(task_id, ""), said.get("summary"))])


def _event(status: str, task_type: str, description: object) -> AgentEvent:
    text, is_cut = one_line(description if isinstance(description, str) else "")
    body: dict[str, Any] = {"status": status, "task_type": task_type, "description": text}
    return AgentEvent("background", body | ({"truncated": True} if is_cut else {}))
