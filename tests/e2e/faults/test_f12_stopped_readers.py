"""F12: readers of a log that stop reading. The task does not notice, and the API's memory stays bounded."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.faults.following import Follower
from tests.e2e.faults.installation import PATIENT
from tests.e2e.faults.running import Install
from tests.e2e.stack import eventually
from tests.e2e.submitting import run_manifest

pytestmark = pytest.mark.docker

READERS = 50
MOST_BYTES = 50 << 20
LINE_BYTES = 4000
LINES = 5000
BURST = f"""
import os, time
while not os.path.exists("go"):
    time.sleep(0.05)
for number in range({LINES}):
    os.write(1, (b"%06d " % number).ljust({LINE_BYTES - 1}, b"x") + b"\\n")
"""
"""20 MB: fifty readers would be a gigabyte if the API kept for each what it does not take."""


def stopped_reader(url: str, task: str) -> socket.socket:
    """Has asked, got the answer's first bytes, and takes nothing any more."""
    where = urlsplit(url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((where.hostname, where.port))
    path = f"/api/v1/tasks/{task}/logs?follow=true"
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
    assert connection.recv(12) == b"HTTP/1.1 200"
    return connection


def resident_bytes(session: int) -> int:
    """Of all processes of a session: the API is one that supervises and one that serves."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = process.joinpath("stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session:
            total += int(fields[21]) * 4096
    return total


def test_fifty_readers_that_stopped_reading_cost_neither_the_task_nor_memory(install: Install) -> None:
    with install(workers=("w1",), **PATIENT) as it, ExitStack() as stack:
        warm = it.api.submit(run_manifest(script=f"head -c {16 * LINE_BYTES} /dev/zero | tr '\\0' x"))
        Follower(it.api.urls, warm).wait_end()
        before = resident_bytes(it.apis[0].pid)
        task = it.api.submit(run_manifest(command=["python3", "-c", BURST]))
        it.api.reached(task, "running")
        readers = [stack.enter_context(stopped_reader(it.api.urls[0], task)) for _ in range(READERS)]
        (it.hosts["w1"].work_dir / f"{task}.1" / "disk" / "workspace" / "go").touch()
        highest = 0

        def is_over() -> bool:
            nonlocal highest
            highest = max(highest, resident_bytes(it.apis[0].pid))
            return it.api.state(task) == "completed"

        eventually("the task ends as if nobody read", is_over, 120)
        assert highest - before < MOST_BYTES, f"the API grew by {(highest - before) >> 20} MiB"
        assert all(reader.fileno() > 0 for reader in readers)
        late = Follower(it.api.urls, task)
        late.wait_end()
        assert len(late.reader.data("stdout")) == LINES * LINE_BYTES
