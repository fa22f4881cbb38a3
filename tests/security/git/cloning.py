"""Tasks that clone something, and whether a manifest or a clone refused it."""

from __future__ import annotations

from typing import Any

import httpx

from tests.e2e.submitting import ended, run_manifest

Json = dict[str, Any]


def submit_clone(api: httpx.Client, section: Json, script: str = "true") -> str | None:
    """Submit a task with this `repository`; return its id, None when the manifest was refused for that section."""
    answer = api.post("/tasks", json=run_manifest(script=script, repository=section))
    if answer.status_code == 202:
        return str(answer.json()["task_id"])
    body = answer.json()
    assert (answer.status_code, body["error"]) == (400, "invalid_manifest"), answer.text
    assert all(str(one["pointer"]).startswith("/repository") for one in body["errors"]), body["errors"]
    return None


def assert_clone_failed(api: httpx.Client, task_id: str) -> Json:
    """Wait for the end of a task whose repository must not be had; return the task."""
    task = ended(api, task_id, 180)
    assert (task["state"], task["outcome"]["reason"]) == ("failed", "clone_failed"), task["outcome"]
    return task
