"""How many short tasks a second."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.benchmarks.engine import docker_run_ms
from tests.benchmarks.stack import CONCURRENCY, Stack, StateWatch, noop_manifest
from tests.benchmarks.table import Row


def noop_tasks_at_once(stack: Stack, tasks: int = 100) -> Row:
    """No-op tasks a second at concurrency 4. Half of the bare loop runs before, half after: against drift."""
    before = _docker_runs_seconds(stack.image, tasks // 2)
    took = tasks_seconds(stack, tasks)
    after = _docker_runs_seconds(stack.image, tasks - tasks // 2)
    return Row(
        f"{tasks} no-op tasks at concurrency {CONCURRENCY}",
        tasks / took,
        "tasks/s",
        tasks,
        beside=f"docker run loop, {CONCURRENCY} at once",
        limit=tasks / (before + after),
        note="first POST → last completed",
    )


def _docker_runs_seconds(image: str, runs: int) -> float:
    began = time.perf_counter()
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        list(pool.map(lambda _: docker_run_ms(image), range(runs)))
    return time.perf_counter() - began


def tasks_seconds(stack: Stack, tasks: int) -> float:
    """From the first POST to the last task's `completed`."""
    manifest = noop_manifest(stack.image)
    with (
        StateWatch(stack) as watch,
        httpx.Client(base_url=stack.url, timeout=60) as client,
        ThreadPoolExecutor(CONCURRENCY) as pool,
    ):
        began = time.perf_counter()
        submitted = list(pool.map(lambda _: stack.submit(manifest, client), range(tasks)))
        return max(watch.wait(task_id, "completed") for task_id in submitted) - began
