"""Submit a task and wait for what comes of it."""

from __future__ import annotations

from typing import Any

import httpx

from tests.e2e.stack import eventually

TERMINAL = {"completed", "failed", "failed_preserved", "cancelled"}
Json = dict[str, Any]


def run_manifest(
    *, script: str | None = None, command: list[str] | None = None, lifecycle: Json | None = None, **sections: Any
) -> Json:
    """A small manifest for the `basic` profile."""
    run = {"script": script} if script is not None else {"command": command}
    vm = {"profile": "basic", "cpus": 0.5, "memory": "128M", "disk": "1G"}
    manifest: Json = {"version": "1", "kind": "Task", "metadata": {"name": "test"}, "run": run, "vm": vm}
    if lifecycle:
        manifest["lifecycle"] = lifecycle
    return {**manifest, **sections}


def submit(api: httpx.Client, manifest: Json) -> str:
    answer = api.post("/tasks", json=manifest)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def state_of(api: httpx.Client, task_id: str) -> str:
    return str(api.get(f"/tasks/{task_id}").json()["state"])


def ended(api: httpx.Client, task_id: str, seconds: float = 120) -> Json:
    """The task once it has ended."""

    def look() -> Json | None:
        task: Json = api.get(f"/tasks/{task_id}").json()
        return task if task["state"] in TERMINAL else None

    found = eventually(f"task {task_id} has ended", look, seconds)
    assert isinstance(found, dict)
    return found


def raw_output(api: httpx.Client, task_id: str, stream: str = "stdout") -> bytes:
    answer = api.get(f"/tasks/{task_id}/logs", params={"format": "raw", "stream": stream, "attempt": "all"})
    assert answer.status_code == 200, answer.text
    return answer.content
