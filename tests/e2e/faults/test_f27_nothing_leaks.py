"""F27: five hundred tasks of every ending. What a process holds, and what a task costs the store, does not grow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.faults.installation import PATIENT, Installation
from tests.e2e.faults.running import Install
from tests.e2e.faults.scripts import ticking_task
from tests.e2e.stack import eventually, mounts_below
from tests.e2e.submitting import Json, run_manifest

pytestmark = [pytest.mark.docker, pytest.mark.faults_long]

WARM, TASKS, AT_ONCE = 100, 500, 8
SPARE_DESCRIPTORS = 12
SPARE_THREADS = 12
SPARE_RESIDENT_BYTES = 40 << 20
"""What an allocator keeps and a pool opens later than after the first hundred; a leak per task would be more."""
STORE_GROWTH = 1.25


@dataclass(frozen=True, slots=True)
class Held:
    """What one process holds."""

    descriptors: int
    threads: int
    resident_bytes: int

    @classmethod
    def of(cls, process: int) -> Held:
        directory = Path(f"/proc/{process}")
        fields = (directory / "stat").read_text().rpartition(")")[2].split()
        descriptors = len(list((directory / "fd").iterdir()))
        return cls(descriptors, int(fields[17]), int(fields[21]) * os.sysconf("SC_PAGE_SIZE"))


def processes(it: Installation) -> Iterator[tuple[str, int]]:
    for part in it.parts():
        yield part.name, part.pid
        children = Path(f"/proc/{part.pid}/task/{part.pid}/children").read_text().split()
        yield from ((f"{part.name}'s child {number}", int(child)) for number, child in enumerate(children))
    for host in it.hosts.values():
        yield from ((f"keeper of {host.name}", keeper) for keeper in host.keepers())


def manifest(number: int) -> Json:
    """Seven kinds of endings, one after the other."""
    again = {"retry": {"max_attempts": 2, "on": ["exit_nonzero"], "backoff": "0s"}}
    kinds = (
        lambda: ticking_task(20, 0.1),
        lambda: ticking_task(20, 0.1, artifact=True),
        lambda: run_manifest(command=["true"]),
        lambda: run_manifest(script="exit 3"),
        lambda: run_manifest(script="exit 4", lifecycle=again),
        lambda: run_manifest(script="sleep 60", lifecycle={"timeout": "1s", "stop_grace": "1s"}),
        lambda: run_manifest(script="sleep 61", lifecycle={"stop_grace": "1s"}),  # cancelled
    )
    return kinds[number % len(kinds)]()


def run_one(it: Installation, number: int) -> None:
    wanted = manifest(number)
    task = it.api.submit(wanted)
    if wanted["run"].get("script") == "sleep 61":
        it.api.reached(task, "running", seconds=300)
        it.api.cancel(task, wait=60)
    it.api.ended(task, seconds=300)


def store_bytes(it: Installation) -> int:
    return sum(file.stat().st_size for file in (it.directory / "store").iterdir())


def look(it: Installation) -> tuple[dict[str, Held], int]:
    """What each process holds at rest, how large the store is. A task's disk may outlast its end by a moment only."""
    eventually("nothing runs", lambda: not it.api.workers()["w1"]["task_ids"])
    eventually("no disk is mounted", lambda: not mounts_below(it.directory))
    return {name: Held.of(pid) for name, pid in processes(it)}, store_bytes(it)


def test_five_hundred_tasks_of_every_ending_leave_every_process_and_the_store_per_task_as_they_were(
    install: Install,
) -> None:
    with (
        install(workers=("w1",), SANDBOX_CONCURRENCY=str(AT_ONCE), SANDBOX_CPU_OVERCOMMIT="8", **PATIENT) as it,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        empty = store_bytes(it)
        list(pool.map(lambda number: run_one(it, number), range(WARM)))
        before, store_before = look(it)
        list(pool.map(lambda number: run_one(it, number), range(WARM, TASKS)))
        after, store_after = look(it)
        assert before.keys() == after.keys()
        for name, held in after.items():
            was = before[name]
            assert held.descriptors <= was.descriptors + SPARE_DESCRIPTORS, f"{name}: {was} became {held}"
            assert held.threads <= was.threads + SPARE_THREADS, f"{name}: {was} became {held}"
            assert held.resident_bytes <= was.resident_bytes + SPARE_RESIDENT_BYTES, f"{name}: {was} became {held}"
        first, later = (store_before - empty) / WARM, (store_after - store_before) / (TASKS - WARM)
        assert later <= STORE_GROWTH * first, f"a task cost {first:.0f} bytes of the store, then {later:.0f}"
