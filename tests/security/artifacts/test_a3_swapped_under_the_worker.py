"""A3: a task that swaps files and directories for links until it is stopped gets no byte of the host.

Swapping while the walk is at work, which no sandbox can do any more then: tests/unit/test_collect.py.
"""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.security.artifacts.leaving import leave, refused, stored

pytestmark = pytest.mark.docker

NAMES = 50
"""Swapped by one task; each is one round, since each is in a state of its own when the task is stopped."""
PROGRAM = """
import itertools, os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
foreign = "FOREIGN"
targets = [foreign, "../" * 30 + foreign.lstrip("/"), "/proc/1/root" + foreign]
os.mkdir("new")
for turn in itertools.count():
    for number in range(NAMES):
        file, directory = f"f{number}", f"d{number}"
        with open("new/ours", "w") as ours:
            ours.write("ours")
        os.replace("new/ours", file)
        os.symlink(targets[turn % 3], "new/link")
        if turn % 2:
            os.replace("new/link", file)
        else:
            os.rename("new/link", "new/spare"); os.unlink("new/spare")
        if os.path.islink(directory):
            os.unlink(directory)
            os.mkdir(directory)
            open(directory + "/secret", "w").write("ours")
        else:
            if os.path.isdir(directory):
                os.unlink(directory + "/secret")
                os.rmdir(directory)
            os.symlink(os.path.dirname(targets[turn % 3]), directory)
"""
UNTIL_STOPPED = {"timeout": "3s", "stop_grace": "1s"}


@pytest.mark.parametrize("tasks", [1, pytest.param(20, marks=pytest.mark.security_long)])
def test_a3_what_is_swapped_until_the_stop_is_stored_as_the_task_s_own_bytes_or_refused(
    api: httpx.Client, foreign: Path, tasks: int
) -> None:
    program = PROGRAM.replace("FOREIGN", str(foreign)).replace("NAMES", str(NAMES))
    for _ in range(tasks):
        task = leave(api, program, lifecycle=UNTIL_STOPPED)
        assert task["outcome"]["reason"] == "timeout", task["outcome"]
        kept, why = stored(api, task), refused(api, task)
        files = {f"f{number}" for number in range(NAMES)}
        assert files <= set(kept) | set(why), "a file is neither stored nor refused"
        assert set(kept.values()) <= {b"ours", b""}  # it may be stopped before it wrote
