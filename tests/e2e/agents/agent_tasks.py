"""Tasks of a coding agent: their manifests, and what they tell and leave."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.stack import Product, eventually
from tests.e2e.submitting import TERMINAL, Json

PATIENCE_SECONDS = 120.0
"""For what takes a second or two on an idle machine."""
_OF_THE_TASK = ("state_change", "artifact")
VM: Json = {"cpus": 1, "memory": "1G", "disk": "1G"}


def agent_manifest(
    repository: Path, prompt: str, *, lifecycle: Json | None = None, vm: Json | None = None, **more: Any
) -> Json:
    """A small manifest for the agent; `more` are fields of its section `claude`, and whole other sections."""
    sections = {name: more.pop(name) for name in ("secrets",) if name in more}
    return {
        "version": "1",
        "kind": "Task",
        "metadata": {"name": "agent"},
        "repository": {"url": repository.as_uri()},
        "claude": {"prompt": prompt, **more},
        "vm": {**VM, **(vm or {})},
        "lifecycle": lifecycle or {},
        **sections,
    }


def records(api: httpx.Client, task_id: str) -> list[Json]:
    answer = api.get(f"/tasks/{task_id}/logs", params={"format": "ndjson", "attempt": "all"})
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.split("\n") if line]


def events(api: httpx.Client, task_id: str, *types: str) -> list[Json]:
    """What the agent has told so far: all of it, or events of these types."""
    found = [one for one in records(api, task_id) if one["stream"] == "event" and one["type"] not in _OF_THE_TASK]
    return [one for one in found if not types or one["type"] in types]


def states(api: httpx.Client, task_id: str) -> list[str]:
    return [one["new_state"] for one in records(api, task_id) if one.get("type") == "state_change"]


def artifact(api: httpx.Client, task_id: str, path: str) -> bytes:
    answer = api.get(f"/tasks/{task_id}/artifacts/{path}")
    assert answer.status_code == 200, answer.text
    return answer.content


def artifact_paths(api: httpx.Client, task_id: str) -> set[str]:
    return {one["path"] for one in api.get(f"/tasks/{task_id}/artifacts").json()["artifacts"]}


def stream(api: httpx.Client, task_id: str) -> list[Json]:
    """What the agent printed, as the artifact has it."""
    text = artifact(api, task_id, f"{task_id}.claude-stream.jsonl").decode()
    return [json.loads(line) for line in text.split("\n") if line]


def result_of(api: httpx.Client, task_id: str) -> Json:
    """The last result that the agent printed."""
    return [one for one in stream(api, task_id) if one["type"] == "result"][-1]


def tool_results(api: httpx.Client, task_id: str) -> list[Json]:
    """The results of tools, as the model was given them: `tool_use_id`, `content`, perhaps `is_error`."""
    told = [one["message"]["content"] for one in stream(api, task_id) if one["type"] == "user"]
    return [part for parts in told if isinstance(parts, list) for part in parts if part["type"] == "tool_result"]


def workspace(product: Product, task_id: str) -> Path:
    """Where the workspace of a task that is not over lies on this host."""
    return product.directory / "work" / f"{task_id}.1" / "disk" / "workspace"


def wait_for_file(name: str) -> str:
    """A command that waits until the file is in the workspace; the agent's shell refuses a bare `sleep`."""
    return f"until [ -e /workspace/{shlex.quote(name)} ]; do sleep 0.1; done"


def eventually_told(api: httpx.Client, task_id: str, kind: str, check: Callable[[Json], bool] = bool) -> Json:
    """The first event of a type that passes the check, once it is there; fails when the task ends without it."""

    def look() -> Json | None:
        has_ended = api.get(f"/tasks/{task_id}").json()["state"] in TERMINAL
        found = next((one for one in events(api, task_id, kind) if check(one)), None)
        assert found or not has_ended, f"task {task_id} ended without {kind}: {events(api, task_id)}"
        return found

    told = eventually(f"task {task_id} tells {kind}", look, PATIENCE_SECONDS)
    assert isinstance(told, dict)
    return told


def sandbox(product: Product, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What the `sandbox` command does on that product, told to a pipe."""
    argv = [sys.executable, "-m", "orchestrator.cli", *arguments, "--server", product.url]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)


def question_of(api: httpx.Client, task_id: str) -> Json:
    """What the task waits for, once it does."""

    def look() -> Json | None:
        task: Json = api.get(f"/tasks/{task_id}").json()
        assert task["state"] not in TERMINAL, task["outcome"]
        question: Json | None = task["input_required"]
        return question

    found = eventually(f"task {task_id} waits for input", look, PATIENCE_SECONDS)
    assert isinstance(found, dict)
    return found
