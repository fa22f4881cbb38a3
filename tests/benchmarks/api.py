"""How many submissions a second, and what each layer of one costs.

Three requests that do more and more: `health/live` is HTTP and the framework; `dry_run` adds parsing and
validation; the real thing adds the store, placement and the message.
"""

import json
import threading
import time
from collections.abc import Callable

import httpx

from tests.benchmarks.stack import CONCURRENCY, BenchmarkFailed, Stack, StateWatch, noop_manifest
from tests.benchmarks.table import Row

_CLIENTS = 4
Request = Callable[[httpx.Client], httpx.Response]


def submissions(stack: Stack, seconds: float = 5) -> list[Row]:
    """Requests a second of four clients. All slots are held, so what is submitted stays pending."""
    manifest = noop_manifest(stack.image)
    as_json, as_yaml = json.dumps(manifest), _yaml(manifest)
    holding = [stack.submit(noop_manifest(stack.image, command=["sleep", "3600"])) for _ in range(CONCURRENCY)]
    with StateWatch(stack) as watch:
        for task_id in holding:
            if stack.task(task_id)["state"] != "running":
                watch.wait(task_id, "running")
    requests: list[tuple[str, int, Request]] = [
        ("GET /health/live", 200, lambda client: client.get("/health/live")),
        ("POST /tasks, dry_run, JSON", 200, _post(as_json, "application/json", "?dry_run=true")),
        ("POST /tasks, dry_run, YAML", 200, _post(as_yaml, "application/yaml", "?dry_run=true")),
        ("POST /tasks, stays pending, JSON", 202, _post(as_json, "application/json", "")),
    ]
    rows: list[Row] = []
    for what, expected, request in requests:
        count, rate = _rate(stack, request, expected, seconds)
        floor = rows[0].value if rows else None
        note = f"{1000 / rate:.2f} ms of this machine each"
        rows.append(Row(what, rate, "requests/s", count, None, "health/live" if rows else "", floor, note))
    return rows


def _post(body: str, content_type: str, query: str) -> Request:
    return lambda client: client.post(f"/tasks{query}", content=body, headers={"Content-Type": content_type})


def _yaml(manifest: dict[str, object]) -> str:
    import yaml

    return str(yaml.safe_dump(manifest))


def _rate(stack: Stack, request: Request, expected: int, seconds: float) -> tuple[int, float]:
    began = time.perf_counter()
    counts = [0] * _CLIENTS
    wrong: list[str] = []

    def repeat(index: int) -> None:
        with httpx.Client(base_url=stack.url, timeout=60) as client:
            while time.perf_counter() < began + seconds and not wrong:
                answer = request(client)
                if answer.status_code != expected:
                    wrong.append(f"{answer.request.url} answered {answer.status_code}: {answer.text}")
                counts[index] += 1

    threads = [threading.Thread(target=repeat, args=(index,)) for index in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise BenchmarkFailed(wrong[0])
    return sum(counts), sum(counts) / (time.perf_counter() - began)
