"""Models → the JSON the contract promises (§3)."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote

from orchestrator import clock, usage
from orchestrator.manifest.git_names import without_password
from orchestrator.manifest.notify import without_secrets
from orchestrator.models import Artifact, Attempt, ListedTask, Question, Task, Worker, WorkerState
from orchestrator.placement import NOTHING
from orchestrator.states import State
from orchestrator.store.workers import as_host


def time_text(at: datetime | None) -> str | None:
    return clock.text(at) if at else None


def links(task_id: str) -> dict[str, str]:
    base = f"/api/v1/tasks/{quote(task_id)}"
    return {
        "self": base,
        "logs": f"{base}/logs",
        "events": f"{base}/logs?stream=events&follow=true",
        "artifacts": f"{base}/artifacts",
    }


def accepted(task: Task) -> dict[str, Any]:
    return {
        "task_id": task.id,
        "state": task.state,
        "message": f"task {task.id} is accepted; follow it with `sandbox task logs {task.id} --follow`",
        "created_at": clock.text(task.created_at),
        "links": links(task.id),
    }


def list_item(task: ListedTask, waits_for: Question | None) -> dict[str, Any]:
    """`waits_for`: what its agent wants to know first."""
    return {
        "id": task.id,
        "task_id": task.id,
        "name": task.name,
        "state": task.state,
        "state_message": task.state_message,
        "labels": task.labels,
        "priority": task.priority,
        "parent_id": task.parent_id,
        "owner": task.owner,
        "created_at": clock.text(task.created_at),
        "started_at": time_text(task.started_at),
        "state_changed_at": clock.text(task.state_changed_at),
        "finished_at": time_text(task.finished_at),
        "exit_code": task.exit_code,
        "vm_name": f"{task.id}.{task.attempt}" if task.attempt else None,
        "vm_ip": None,  # a sandbox has no network of its own
        "worker": task.worker,
        "attempt": task.attempt,
        "progress": {
            "percent": task.progress_percent,
            "text": task.progress_text,
            "output_bytes": task.output_bytes,
            "tool_calls": task.tool_calls,
            "current_tool": task.current_tool,
            "last_activity_at": time_text(task.last_activity_at),
        },
        "input_required": _question(waits_for) if waits_for else None,
        "resumed_from": task.resumed_from,
    }


def _question(one: Question) -> dict[str, Any]:
    return {
        "id": one.id,
        "asked_at": clock.text(one.asked_at),
        "kind": one.kind,
        "text": one.text,
        "options": list(one.options),
    }


def details(task: Task, attempts: list[Attempt], waits_for: Question | None, now: datetime) -> dict[str, Any]:
    """`now`: up to when the time of what still runs is counted."""
    resumable = max((one.number for one in attempts if one.session), default=0) if task.is_terminal else 0
    return {
        **list_item(task, waits_for),
        "definition": _shown(task.definition),
        "outcome": task.outcome.to_dict() if task.outcome else None,
        "attempts": [
            attempt_view(one, usage.of_attempt(one, now, task.resumed_cost_usd), resumable=one.number == resumable)
            for one in attempts
        ],
        "usage": usage.of_task(attempts, now, task.resumed_cost_usd),
        "outputs": task.outputs,
        "applied": task.applied,
        "cancel": cancellation(task, attempts),
        "rerun_of": task.rerun_of,
        "preserve_until": time_text(task.preserve_until),
        "purged_at": time_text(task.purged_at),
        "links": links(task.id),
    }


def _shown(definition: dict[str, Any]) -> dict[str, Any]:
    """The definition without signing secrets, and without a password in the repository's URL: who may read tasks gets
    no key to their code, and cannot speak in our name."""
    definition = without_secrets(definition)
    repository = definition.get("repository")
    if not repository:
        return definition
    return {**definition, "repository": {**repository, "url": without_password(repository["url"])}}


def attempt_view(one: Attempt, used: dict[str, Any], *, resumable: bool) -> dict[str, Any]:
    """`resumable`: a new task may go on from its agent's session."""
    return {
        "attempt": one.number,
        "worker": one.worker,
        "state": one.state,
        "claimed_at": clock.text(one.claimed_at),
        "started_at": time_text(one.running_at),
        "finished_at": time_text(one.finished_at),
        "outcome": one.outcome.to_dict() if one.outcome else None,
        "image": one.image,
        "image_digest": one.image_digest,
        "commit": one.commit,
        "container_id": one.sandbox,
        "output_bytes": one.output_bytes,
        "dropped_bytes": one.dropped_bytes,
        "preserved": one.preserved,
        "usage": used,
        "agent_version": (one.agent or {}).get("version"),
        "session": {"resumable": resumable, "size_bytes": one.session["size_bytes"]} if one.session else None,
    }


def cancellation(task: Task, attempts: list[Attempt]) -> dict[str, Any] | None:
    wish = task.cancellation
    if wish is None:
        return None
    return {
        "requested_at": clock.text(wish.requested_at),
        "requested_by": wish.requested_by,
        "reason": wish.reason,
        "force": wish.force,
        "phase": _phase(task, attempts),
    }


def _phase(task: Task, attempts: list[Attempt]) -> str:
    if task.is_terminal:
        return "confirmed"
    if task.state is not State.COMPLETING:
        return "requested"
    verdict = attempts[-1].verdict if attempts else None
    return "collecting" if verdict and verdict.get("stopped") else "stopping"


def artifact(one: Artifact, *, latest: int) -> dict[str, Any]:
    """`latest`: the task's latest attempt, whose artifacts need no number."""
    which = "" if one.attempt == latest else f"?attempt={one.attempt}"
    return {
        "name": one.name,
        "path": one.path,
        "size_bytes": one.size_bytes,
        "content_type": one.content_type,
        "checksum": f"sha256:{one.sha256}",
        "created_at": clock.text(one.created_at),
        "download_url": f"/api/v1/tasks/{quote(one.task_id)}/artifacts/{quote(one.path)}{which}",
    }


def worker(one: Worker, used: tuple[int, Any] | None, task_ids: list[str], task_count: int) -> dict[str, Any]:
    """`used`: what is placed on it or runs there; `task_ids`: what the caller may know of the tasks it owns."""
    slots, held = used or (0, NOTHING)
    capacity = as_host(one).capacity
    return {
        "name": one.name,
        "state": _worker_state(one, task_count),
        "draining": one.draining,
        "drain_until": time_text(one.drain_until),
        "version": one.version,
        "capacity": {
            "slots": one.slots,
            "cpus": capacity.cpus,
            "memory_bytes": capacity.memory_bytes,
            "disk_bytes": capacity.disk_bytes,
        },
        "used": {
            "slots": slots,
            "cpus": held.cpus,
            "memory_bytes": held.memory_bytes,
            "disk_bytes": held.disk_bytes,
        },
        "task_ids": task_ids,
        "task_count": task_count,
        "profiles": list(one.profiles),
        "network_modes": list(one.network_modes),
        "agents": list(one.agents),
        "trouble": one.trouble,
        "registered_at": clock.text(one.registered_at),
        "last_heartbeat_at": clock.text(one.heartbeat_at),
    }


def _worker_state(one: Worker, task_count: int) -> str:
    """A drain shows while the worker runs; that one is stopped or lost says more."""
    if one.state is not WorkerState.ACTIVE or not one.draining:
        return one.state
    return "draining" if task_count else "drained"
