"""F14, D7: the disk of the store and a worker's data fills up. Tasks wait or fail with a reason; nothing is corrupt."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import httpx
import pytest

from tests.e2e.faults.installation import PATIENT, Installation
from tests.e2e.faults.running import Install
from tests.e2e.faults.scripts import ticking_task
from tests.e2e.faults.small_disk import SmallDisk, small_disk
from tests.e2e.stack import eventually

pytestmark = pytest.mark.docker

DISK_BYTES = 200 << 20
ROOMY = {"SANDBOX_DISK_OVERCOMMIT": "100"}
"""The tasks' own disks are sparse files, larger together than this one."""
FULL_SECONDS = 4.0
ROOM_BYTES = 20 << 20
"""Enough to go on with, and below the floor: a fifth of so small a disk."""
ANSWERS = {200, 202, 503, 507}
ENDS = {"completed", "failed"}


def on_disk(disk: SmallDisk, installation: Path, *names: str) -> None:
    """Let these directories of the installation lie on the disk."""
    installation.mkdir()
    for name in names:
        (disk.top / name).mkdir()
        (installation / name).symlink_to(disk.top / name)


def ask_everything(it: Installation, task: str) -> set[int]:
    """Read and write through the API; return the statuses that came. What was accepted is remembered."""
    base = f"{it.api.urls[0]}/api/v1"
    seen = {httpx.get(f"{base}{path}", timeout=90).status_code for path in ("/tasks", f"/tasks/{task}", "/workers")}
    answer = httpx.post(f"{base}/tasks", json=ticking_task(10, 0.2), timeout=90)
    if answer.status_code == 202:
        it.api.accepted.append(str(answer.json()["task_id"]))
    return {*seen, answer.status_code}


def test_a_full_disk_ends_no_task_without_a_reason_and_space_alone_heals_it(install: Install, tmp_path: Path) -> None:
    with small_disk(tmp_path, DISK_BYTES) as disk:
        on_disk(disk, tmp_path / "installation", "store", "w1")
        with install(**PATIENT, **ROOMY) as it:
            it.add_worker("w1")
            running = [it.api.submit(ticking_task(600, 8.0, artifact=True)) for _ in range(2)]
            for task in running:
                eventually("it prints", lambda task=task: "tick 5\n" in it.api.output(task))
            seen: set[int] = set()
            until = time.monotonic() + FULL_SECONDS
            while time.monotonic() < until:
                disk.fill()
                seen |= ask_everything(it, running[0])
            assert seen <= ANSWERS, seen
            disk.free()
            eventually("the worker takes tasks again", lambda: not it.api.workers()["w1"]["trouble"])
            late = it.api.submit(ticking_task(50, 0.5, artifact=True))
            for found in it.api.ended(*it.api.accepted):
                assert found["state"] in ENDS, found
                if found["state"] == "failed":
                    assert found["outcome"]["fault"] == "platform", found["outcome"]
            assert it.api.state(late) == "completed"
        store = sqlite3.connect(disk.top / "store" / "store.db")
        assert store.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        store.close()


def test_d7_artifacts_wait_for_room_on_the_host_s_disk_and_the_task_says_so(install: Install, tmp_path: Path) -> None:
    with small_disk(tmp_path, DISK_BYTES) as disk:
        on_disk(disk, tmp_path / "installation", "w1", "artifacts")
        with install(**PATIENT, **ROOMY) as it:
            it.add_worker("w1")
            task = it.api.submit(ticking_task(50, 12.0, artifact=True))
            eventually("it prints", lambda: "tick 5\n" in it.api.output(task))
            disk.leave(ROOM_BYTES)
            eventually("it waits", lambda: "its artifacts wait" in (it.api.task(task)["state_message"] or ""))
            assert it.api.state(task) == "completing"
            disk.free()
            [found] = it.api.ended(task)
            assert found["state"] == "completed", found["outcome"]
            assert [one["path"] for one in it.api.get(f"/tasks/{task}/artifacts")["artifacts"]] == ["result.txt"]


@pytest.mark.faults_long
def test_a_worker_whose_disk_is_nearly_full_says_so_and_its_tasks_wait(install: Install, tmp_path: Path) -> None:
    with small_disk(tmp_path, DISK_BYTES) as disk:
        on_disk(disk, tmp_path / "installation", "w1")
        with install(**PATIENT, **ROOMY) as it:
            it.add_worker("w1")
            disk.fill()
            eventually("it tells", lambda: "disk is nearly full" in (it.api.workers()["w1"]["trouble"] or ""))
            waiting = it.api.submit(ticking_task(10, 0.2))
            assert it.api.state(waiting) == "pending"
            assert "disk is nearly full" in it.api.task(waiting)["state_message"]
            disk.free()
            assert it.api.ended(waiting)[0]["state"] == "completed"
