"""Many readers at once: of one task's log, of its events, and of the events of all tasks.

The tasks are played: a writer puts their lines into the store, as a worker's journal writer does, so that the figures
are those of store, API and readers, and not of a hundred containers on this machine.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator import clock, journal
from orchestrator.product import Product
from orchestrator.services.submit import submit
from orchestrator.store import tasks
from tests.benchmarks.processes import Process
from tests.benchmarks.stack import BenchmarkFailed
from tests.benchmarks.table import Row, percentile
from tests.integration.api.installation import BuildHost, open_product
from tests.integration.api.live import LiveServer
from tests.integration.store.given import manifest_of

READERS = 1000
TASKS = 100
LINES_A_SECOND = 20
"""Of the chatty task; of a hundred tasks each says one line a second."""


@dataclass(frozen=True)
class Load:
    """What the readers ask for, and what the tasks say meanwhile. `{task}` is the one that is followed."""

    what: str
    path: str
    tasks: int
    lines_a_second: int
    websocket: bool = False


LOADS = (
    Load("one chatty task's log (SSE)", "/api/v1/tasks/{task}/logs?follow=true&format=sse", 1, LINES_A_SECOND),
    Load("one chatty task's events (SSE)", "/api/v1/tasks/stream?task_id={task}", 1, LINES_A_SECOND),
    Load("one chatty task's events (WebSocket)", "/api/v1/tasks/stream?task_id={task}", 1, LINES_A_SECOND, True),
    Load("all events, 100 tasks run (SSE)", "/api/v1/tasks/stream?exclude_preexisting=true", TASKS, TASKS),
    Load("all events, 100 tasks run (WebSocket)", "/api/v1/tasks/stream?exclude_preexisting=true", TASKS, TASKS, True),
)


def many_readers(quick: bool) -> list[Row]:
    """A row for each load: how late a line is with a thousand readers, beside one alone."""
    readers, seconds = (100, 3) if quick else (READERS, 10)
    rows = []
    for load in LOADS:
        with _server() as (server, product):
            alone = _measured(load, server, product, 1, seconds)
            crowd = _measured(load, server, product, readers, seconds)
        rows.append(
            Row(
                f"{load.what}: line → each of {readers} readers",
                percentile(crowd.delays_ms, 0.5),
                "ms",
                len(crowd.delays_ms),
                percentile(crowd.delays_ms, 0.95),
                "one reader",
                percentile(alone.delays_ms, 0.5),
                f"{crowd.kilobytes_a_reader:.0f} KB a reader, {crowd.cores:.2f} cores (one reader: {alone.cores:.2f}), "
                f"{crowd.megabytes_a_second:.1f} MB/s, all {crowd.lines} lines each",
            )
        )
    return rows


@dataclass(frozen=True)
class Measured:
    delays_ms: list[float]
    kilobytes_a_reader: float
    cores: float
    megabytes_a_second: float
    lines: int


@contextmanager
def _server() -> Iterator[tuple[LiveServer, Product]]:
    with tempfile.TemporaryDirectory(prefix="sandbox-bench-") as directory:
        product = open_product(Path(directory) / "data")
        server = LiveServer(product.settings.data_dir)
        host = BuildHost(product)
        host.register(slots=1000, cpus=1000, memory=1 << 50, disk=1 << 50)
        for number in range(TASKS):
            submit(product, manifest_of(task_id=f"task-{number}"))
            host.run(f"task-{number}")
        server.start()
        try:
            yield server, product
        finally:
            server.stop()
            product.close()


def _measured(load: Load, server: LiveServer, product: Product, readers: int, seconds: float) -> Measured:
    (worker,) = (Process(pid) for pid in server.workers())
    argv = [sys.executable, "-m", "tests.benchmarks.readers", "--port", str(server.port), "--count", str(readers)]
    first = 0 if readers > 1 or load.tasks > 1 else 1  # a log begins anew for who comes second
    argv += ["--path", load.path.format(task=f"task-{first}"), *(["--websocket"] if load.websocket else [])]
    before_bytes = worker.pss_bytes()
    reading = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert reading.stdin
    assert reading.stdout
    if reading.stdout.readline() != "ready\n":
        raise BenchmarkFailed(f"{load.what}: the readers could not connect; see above")
    began, cpu = time.monotonic(), worker.cpu_seconds()
    lines = _talk(load, product, seconds, first)
    took, cpu = time.monotonic() - began, worker.cpu_seconds() - cpu
    added_bytes = worker.pss_bytes() - before_bytes
    reading.stdin.close()
    seen = json.loads(reading.stdout.readline())
    reading.wait(60)
    if list(seen["instants"]) != [str(lines)]:
        raise BenchmarkFailed(f"{load.what}: {lines} lines were said, readers got {seen['instants']}")
    return Measured(seen["delays_ms"], added_bytes / 1024 / readers, cpu / took, seen["bytes"] / took / 1e6, lines)


def _talk(load: Load, product: Product, seconds: float, first: int) -> int:
    """Say lines evenly, each with the instant it was said at; return how many."""
    with product.database.read() as tx:
        found = [tasks.get(tx, f"task-{first + number}") for number in range(load.tasks)]
    claims = [task.claim for task in found if task]
    said, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:
        due = int((time.monotonic() - began) * load.lines_a_second)
        if due > said:
            with product.database.write() as tx:
                for number in range(said, due):
                    line = f"line {number} @{time.time_ns()}@ and some more words as programs print them\n".encode()
                    new = [journal.output("stdout", line, clock.now())]
                    journal.append(tx, claims[number % load.tasks], new)
            said = due
        time.sleep(0.02)
    return said
