"""Tasks that leave what their Python program made, and what became of it."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.e2e.submitting import ended, run_manifest, submit

Json = dict[str, Any]


def leave(api: httpx.Client, program: str, *, lifecycle: Json | None = None, **vm: Any) -> Json:
    """Run a Python program in an empty workspace of which everything is an artifact; return the ended task."""
    manifest = run_manifest(command=["python3", "-c", program])
    manifest["lifecycle"] = {"artifact_patterns": ["**"], **(lifecycle or {})}
    manifest["vm"] |= vm
    return ended(api, submit(api, manifest), 300)


def stored(api: httpx.Client, task: Json) -> dict[str, bytes]:
    """The task's artifacts as they are downloaded."""
    listed = api.get(f"/tasks/{task['id']}/artifacts").json()["artifacts"]
    origin = str(api.base_url.copy_with(path="/")).rstrip("/")
    return {one["path"]: api.get(f"{origin}{one['download_url']}").content for one in listed}


def said(api: httpx.Client, task: Json) -> list[str]:
    """The product's own words in the task's log."""
    answer = api.get(f"/tasks/{task['id']}/logs", params={"format": "ndjson", "attempt": "all"})
    assert answer.status_code == 200, answer.text
    records = [json.loads(line) for line in answer.text.splitlines()]
    return [record["data"].removesuffix("\n") for record in records if record["stream"] == "system"]


def refused(api: httpx.Client, task: Json) -> dict[str, str]:
    """What was not stored, by the name that the log shows, with the reason."""
    marker = " refused: "
    lines = [line.removeprefix("artifact ") for line in said(api, task) if line.startswith("artifact ")]
    return {name: reason for name, _, reason in (line.partition(marker) for line in lines) if reason}
