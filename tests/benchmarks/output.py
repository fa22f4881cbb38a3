"""A task that prints a lot: speed, memory, and whether all of it is there."""

import time

from tests.benchmarks.engine import docker_read
from tests.benchmarks.processes import PeakMemory
from tests.benchmarks.stack import SECRET_KEY, BenchmarkFailed, Stack, StateWatch, noop_manifest
from tests.benchmarks.table import Row

_LINE_BYTES = 100


def loud_task(stack: Stack, size_bytes: int = 200_000_000) -> list[Row]:
    """A task that prints `size_bytes` in lines of 100 bytes; the peak memory meanwhile; the reading back."""
    # Process substitution, not a pipe: `yes` dies of SIGPIPE, which pipefail would make the task's failure.
    script = f"head -c {size_bytes} < <(yes {'x' * (_LINE_BYTES - 1)})"
    piped = 0

    def count(piece: bytes) -> None:
        nonlocal piped
        piped += len(piece)

    docker_seconds = docker_read(stack.image, script, count)
    with StateWatch(stack) as watch, PeakMemory(stack.processes()) as memory:
        began = time.perf_counter()
        task_id = stack.submit(noop_manifest(stack.image, script=script))
        task_seconds = watch.wait(task_id, "completed") - began
    read_bytes, read_seconds = _read_back(stack, task_id)
    masked_seconds = _with_secret(stack, script, size_bytes)
    if not piped == read_bytes == size_bytes:
        raise BenchmarkFailed(f"of {size_bytes} bytes docker's pipe had {piped}, the stored log {read_bytes}")
    size_mb = size_bytes / 1e6
    what = f"{size_mb:.0f} MB in lines of {_LINE_BYTES} bytes"
    return [
        Row(
            f"{what}, submitted → completed",
            size_mb / task_seconds,
            "MB/s",
            1,
            beside="docker run, pipe",
            limit=size_mb / docker_seconds,
            note="every byte stored",
        ),
        Row(
            f"{what}, submitted → completed, by a task that has a secret",
            size_mb / masked_seconds,
            "MB/s",
            1,
            beside="the same without one",
            limit=size_mb / task_seconds,
            note="every byte looked at",
        ),
        Row(f"{what}, reading the stored log (raw)", size_mb / read_seconds, "MB/s", 1),
        *_memory_rows(memory),
    ]


def _with_secret(stack: Stack, script: str, size_bytes: int) -> float:
    """The seconds of the same task when a secret must not be shown; at its end it prints that once, too."""
    masked = noop_manifest(stack.image, script=f'{script}; echo "$SECRET"')
    masked["secrets"] = [{"name": "SECRET", "source": "env", "key": SECRET_KEY}]
    with StateWatch(stack) as watch:
        began = time.perf_counter()
        task_id = stack.submit(masked)
        seconds = watch.wait(task_id, "completed") - began
    shown, _ = _read_back(stack, task_id)
    if shown != size_bytes + len("***\n"):
        raise BenchmarkFailed(f"the log of a task with a secret has {shown} bytes, which is not what it printed")
    return seconds


def _read_back(stack: Stack, task_id: str) -> tuple[int, float]:
    began = time.perf_counter()
    parameters = {"stream": "stdout", "format": "raw"}
    with stack.client.stream("GET", f"/tasks/{task_id}/logs", params=parameters) as answer:
        answer.raise_for_status()
        size = sum(len(piece) for piece in answer.iter_bytes(1 << 20))
    return size, time.perf_counter() - began


def _memory_rows(memory: PeakMemory) -> list[Row]:
    rows = []
    for process, peak in memory.peak_bytes.items():
        try:
            title = process.title
        except OSError:
            title = f"process {process.pid}, ended"
        first = memory.first_bytes[process]
        rows.append(Row(f"peak RSS meanwhile: `{title}`", peak / 1e6, "MB", 1, None, "at its start", first / 1e6))
    return rows
