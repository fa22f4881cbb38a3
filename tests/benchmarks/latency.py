"""How long the shortest task takes, and how late a printed line arrives."""

import json
import time

from httpx_sse import connect_sse

from tests.benchmarks.engine import docker_read, docker_run_ms
from tests.benchmarks.stack import BenchmarkFailed, Stack, StateWatch, noop_manifest
from tests.benchmarks.table import Row, from_samples

_WARM_UP = 2


def noop_task(stack: Stack, samples: int = 30) -> Row:
    """A no-op task, from before the POST until `completed` is received; interleaved with `docker run`."""
    tasks, runs = [], []
    with StateWatch(stack) as watch:
        for _ in range(_WARM_UP + samples):
            began = time.perf_counter()
            tasks.append((watch.wait(stack.submit(noop_manifest(stack.image)), "completed") - began) * 1000)
            runs.append(docker_run_ms(stack.image))
    return from_samples(
        "no-op task, submitted → completed",
        tasks[_WARM_UP:],
        beside="docker run",
        limits=runs[_WARM_UP:],
    )


def printed_line(stack: Stack, lines: int = 60) -> Row:
    """A line, from the clock reading it consists of until a following client has it; one clock for both."""
    script = f"sleep 1; for i in $(seq {lines}); do date +%s%N; sleep 0.05; done"
    with StateWatch(stack) as watch:
        task_id = stack.submit(noop_manifest(stack.image, script=script))
        watch.wait(task_id, "running")
        followed = _followed_delays_ms(stack, task_id)
    piped: list[float] = []
    docker_read(stack.image, script, lambda piece: piped.extend(_delays_ms(piece.decode(), time.time_ns())))
    if len(followed) != lines:
        raise BenchmarkFailed(f"task {task_id} printed {lines} lines, the follower received {len(followed)}")
    return from_samples("printed line → following client (SSE)", followed, beside="docker run, pipe", limits=piped)


def _followed_delays_ms(stack: Stack, task_id: str) -> list[float]:
    delays: list[float] = []
    parameters = {"follow": "true", "stream": "stdout", "format": "sse"}
    with connect_sse(stack.client, "GET", f"/tasks/{task_id}/logs", params=parameters) as source:
        source.response.raise_for_status()
        for event in source.iter_sse():
            now = time.time_ns()
            if event.event == "end":
                break
            if event.event == "stdout":
                delays.extend(_delays_ms(json.loads(event.data)["data"], now))
    return delays


def _delays_ms(text: str, now_ns: int) -> list[float]:
    return [(now_ns - int(line)) / 1e6 for line in text.split()]
