"""What a command says of itself, and what its sandbox uses, as a user sees both: live, afterwards, and over a death."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.stack import Product, eventually, running_product
from tests.e2e.submitting import ended, raw_output, run_manifest, submit

pytestmark = pytest.mark.docker

MIB = 1 << 20
HOLDS_MEMORY = "import time; kept = b'x' * (40 << 20); sum(range(3_000_000)); time.sleep(3)"


def told(api: httpx.Client, task: str, *types: str) -> list[dict[str, Any]]:
    """The frames of a task so far, from its beginning: up to the first heartbeat."""
    params = {"task_id": task, "filter": ",".join(types), "after": "0", "heartbeat_interval_ms": "1000"}
    frames: list[dict[str, Any]] = []
    with api.stream("GET", "/tasks/stream", params=params) as answer:
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            if line == "event: heartbeat":
                return frames
            if line.startswith("data: "):
                frames.append(json.loads(line.removeprefix("data: ")))
    raise AssertionError("the stream ended")


def used(api: httpx.Client, task: str) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"/tasks/{task}").json()["usage"]
    return found


def test_a_task_shows_what_it_uses_while_it_runs_and_what_it_has_used_afterwards(api: httpx.Client) -> None:
    script = f'head -c 20M /dev/zero > zeros; python3 -c "{HOLDS_MEMORY}"; sleep 4'
    task = submit(api, run_manifest(script=script))
    eventually("the memory is seen", lambda: (used(api, task)["memory_peak_bytes"] or 0) >= 40 * MIB)
    assert api.get(f"/tasks/{task}").json()["state"] == "running"
    found = ended(api, task)
    frames = told(api, task, "metrics")
    assert len(frames) >= 2
    assert {(frame["type"], frame["task_id"], frame["attempt"]) for frame in frames} == {("metrics", task, 1)}
    each = [frame["metrics"] for frame in frames]
    assert {one["memory_total_bytes"] for one in each} == {128 * MIB}
    assert {one["disk_total_bytes"] for one in each} == {1024 * MIB}
    assert 40 * MIB <= max(one["memory_used_bytes"] for one in each) <= 128 * MIB
    assert max(one["disk_used_bytes"] for one in each) >= 20 * MIB
    assert max(one["cpu_percent"] for one in each) > 1
    assert all(len(one["load_avg"]) == 3 for one in each)
    usage = found["usage"]
    assert usage == found["attempts"][0]["usage"]
    assert 40 * MIB <= usage["memory_peak_bytes"] <= 128 * MIB
    assert 20 * MIB <= usage["disk_peak_bytes"] <= 1024 * MIB
    assert 0.05 < usage["cpu_seconds"] < 0.5 * usage["wall_seconds"] + 1


def test_a_command_that_ends_before_anything_is_told_of_it_has_used_something(api: httpx.Client) -> None:
    usage = ended(api, submit(api, run_manifest(command=["sleep", "0.5"])))["usage"]
    assert usage["cpu_seconds"] > 0
    assert usage["memory_peak_bytes"] > 0
    assert usage["disk_peak_bytes"] > 0


def test_what_was_said_and_used_before_a_worker_died_is_not_lost_and_not_told_twice(
    docker_engine: None, tmp_path: Path
) -> None:
    script = f"""
        echo "::output first=before"
        python3 -c "{HOLDS_MEMORY}"
        for step in $(seq 1 100); do echo "::progress $step step $step"; sleep 0.15; done
        echo "::output last=after"
    """
    with (
        running_product(tmp_path / "data") as product,
        httpx.Client(base_url=f"{product.url}/api/v1", timeout=60) as api,
    ):
        task = submit(api, run_manifest(script=script))
        eventually("its memory is seen", lambda: (used(api, task)["memory_peak_bytes"] or 0) >= 40 * MIB)
        eventually("it is on its way", lambda: b"::progress 10 " in raw_output(api, task))
        before = used(api, task)
        kill(product)
        product.start()
        found = ended(api, task)
        assert (found["state"], found["attempt"]) == ("completed", 1), found
        assert found["outputs"] == {"first": "before", "last": "after"}
        assert (found["progress"]["percent"], found["progress"]["text"]) == (100, "step 100")
        percents = [frame["progress"]["percent"] for frame in told(api, task, "progress")]
        assert percents == sorted(set(percents))
        assert percents[-1] == 100
        printed = [frame["progress"]["output_bytes"] for frame in told(api, task, "progress")]
        assert printed == sorted(set(printed))
        assert printed[-1] <= found["progress"]["output_bytes"] == len(raw_output(api, task))
        assert found["usage"]["memory_peak_bytes"] >= before["memory_peak_bytes"]
        assert found["usage"]["cpu_seconds"] > before["cpu_seconds"]


def kill(product: Product) -> None:
    assert product.process
    worker = product.child("worker")
    product.process.kill()
    product.process.wait()
    product.process = None
    eventually("its worker ends with it", lambda: not Path(f"/proc/{worker}").exists())
