"""The stream of a running sandbox is lost: its keeper dies. The engine's log has what follows (design §2)."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.stack import Product, eventually, processes_with, running_product
from tests.e2e.submitting import ended, raw_output, run_manifest, submit
from tests.servers.engine import Engine, save_images
from tests.servers.process import pause

pytestmark = pytest.mark.docker

CHATTY = """
import os, time
for number in range(4000):
    os.write(1, b"line %d \\xc3\\xa4\\0\\x1b[1m\\r\\n" % number)
    if number % 7 == 0:
        os.write(2, b"half of %d, " % number)
    if number % 50 == 0:
        os.write(1, b"a long line %d " % number + b"x" * 20000 + b"\\n")
    if number % 77 == 0:
        os.write(2, b"the end of %d\\n" % number)
    time.sleep(0.002)
os.write(1, b"no end of line")
"""

BINARY = """
import os, time
for number in range(40):
    os.write(1, b"%d " % number + bytes(range(256)) + b"\\n")
    time.sleep(0.1)
"""

LOUD = """
import os, time
for first in range(0, 1_800_000, 10_000):
    os.write(1, b"".join(b"%d\\n" % number for number in range(first, first + 10_000)))
while not os.path.exists("/workspace/never"):
    os.write(2, b"waits\\n")
    time.sleep(0.1)
"""


def chatty_output() -> dict[str, bytes]:
    out, err = b"", b""
    for number in range(4000):
        out += b"line %d \xc3\xa4\0\x1b[1m\r\n" % number
        if number % 7 == 0:
            err += b"half of %d, " % number
        if number % 50 == 0:
            out += b"a long line %d " % number + b"x" * 20000 + b"\n"
        if number % 77 == 0:
            err += b"the end of %d\n" % number
    return {"stdout": out + b"no end of line", "stderr": err}


def as_text(data: bytes) -> bytes:
    return b"".join(bytes([byte]) if byte < 0x80 else "\ufffd".encode() for byte in data)


def kill_keeper(product: Product) -> None:
    """The next one may still be on its way: the log goes on without it, out of the engine's."""
    eventually("there is a keeper", lambda: processes_with(f"{product.directory}/run/keeper"))
    [keeper] = processes_with(f"{product.directory}/run/keeper")
    os.kill(keeper, signal.SIGKILL)
    eventually("the keeper is gone", lambda: keeper not in processes_with(f"{product.directory}/run/keeper"))


def gaps(api: httpx.Client, task: str) -> list[str]:
    return [line for line in api.get(f"/tasks/{task}/logs").text.splitlines() if "gap: " in line]


def wait_ended(sandbox: str) -> None:
    argv = ["docker", "inspect", "--format", "{{.State.Running}}", sandbox]
    eventually("it ends", lambda: subprocess.run(argv, capture_output=True, check=True).stdout.strip() == b"false")


def kill_keeper_while_it_prints(product: Product, api: httpx.Client, task: str, times: int) -> None:
    for _ in range(times):
        before = len(raw_output(api, task))
        eventually("it goes on", lambda before=before: len(raw_output(api, task)) > before + 5000)
        kill_keeper(product)


def test_a_keeper_killed_three_times_costs_the_log_no_byte(product: Product, api: httpx.Client) -> None:
    task = submit(api, run_manifest(command=["python3", "-c", CHATTY]))
    kill_keeper_while_it_prints(product, api, task, 3)
    found = ended(api, task)
    assert found["state"] == "completed", found
    assert {stream: raw_output(api, task, stream) for stream in ("stdout", "stderr")} == chatty_output()
    assert gaps(api, task) == []


def test_keeper_and_worker_killed_in_turns_cost_the_log_no_byte(product: Product, api: httpx.Client) -> None:
    task = submit(api, run_manifest(command=["python3", "-c", CHATTY]))
    for _ in range(2):
        kill_keeper_while_it_prints(product, api, task, 1)
        os.kill(product.child("worker"), signal.SIGKILL)
    found = ended(api, task)
    assert found["state"] == "completed", found
    assert len(found["attempts"]) == 1
    assert {stream: raw_output(api, task, stream) for stream in ("stdout", "stderr")} == chatty_output()
    assert gaps(api, task) == []


def test_what_a_command_printed_after_its_keeper_and_its_worker_died_is_in_the_log(
    docker_engine: None, tmp_path: Path
) -> None:
    with (
        running_product(tmp_path / "data") as product,
        httpx.Client(base_url=f"{product.url}/api/v1", timeout=60) as api,
    ):
        script = "echo one; sleep 3; echo two; printf three; printf four >&2"
        task = submit(api, run_manifest(script=script))
        eventually("it prints", lambda: raw_output(api, task) == b"one\n")
        keeper = processes_with(f"{product.directory}/run/keeper")
        pause(product.child("worker"))
        for process in keeper:
            os.kill(process, signal.SIGKILL)
        worker = product.child("worker")
        assert product.process
        product.process.kill()
        product.process.wait()
        product.process = None
        os.kill(worker, signal.SIGKILL)
        [sandbox] = product.containers()
        wait_ended(sandbox)
        product.start()
        found = ended(api, task)
        assert found["state"] == "completed", found
        assert (raw_output(api, task), raw_output(api, task, "stderr")) == (b"one\ntwo\nthree", b"four")
        assert gaps(api, task) == []


def test_bytes_that_are_no_text_are_recovered_as_the_engine_kept_them_and_the_log_says_so(
    product: Product, api: httpx.Client
) -> None:
    task = submit(api, run_manifest(command=["python3", "-c", BINARY]))
    eventually("it prints", lambda: len(raw_output(api, task)) > 1000)
    kill_keeper(product)
    ended(api, task)
    got = raw_output(api, task)
    exact = b"".join(b"%d " % number + bytes(range(256)) + b"\n" for number in range(40))
    same = next(at for at in range(len(got)) if got[at] != exact[at])
    assert same > 1000
    assert got[same:] == as_text(exact)[-len(got[same:]) :]
    assert len(as_text(exact[:same])) + len(got[same:]) == len(as_text(exact))
    [gap] = gaps(api, task)
    assert "U+FFFD" in gap


def test_a_log_that_was_rotated_is_told_and_nothing_is_printed_twice(product: Product, api: httpx.Client) -> None:
    # So many short lines are more than two files of the engine's log hold.
    task = submit(api, run_manifest(command=["python3", "-c", LOUD]))
    eventually("it waits", lambda: b"waits\n" in raw_output(api, task, "stderr"), 240)
    eventually("all is stored", lambda: raw_output(api, task).endswith(b"\n1799999\n"), 240)
    kill_keeper(product)
    before = len(raw_output(api, task, "stderr"))
    eventually("it goes on", lambda: len(raw_output(api, task, "stderr")) > before + 30, 240)
    api.delete(f"/tasks/{task}")
    ended(api, task)
    assert raw_output(api, task) == b"".join(b"%d\n" % number for number in range(1_800_000))
    assert len(gaps(api, task)) == 1
    assert "rotated" in gaps(api, task)[0]


def test_without_an_engine_s_log_a_gap_says_what_may_be_missing(docker_engine: None, tmp_path: Path) -> None:
    with (
        running_product(tmp_path / "data", SANDBOX_ENGINE_LOG_DRIVER="none") as product,
        httpx.Client(base_url=f"{product.url}/api/v1", timeout=60) as api,
    ):
        task = submit(api, run_manifest(script='for i in $(seq 1 200); do echo "tick $i"; sleep 0.03; done'))
        eventually("it prints", lambda: b"tick 10\n" in raw_output(api, task))
        kill_keeper(product)
        assert ended(api, task)["state"] == "completed"
        printed = raw_output(api, task).splitlines(keepends=True)
        assert printed == sorted(set(printed), key=lambda line: int(line.split()[1]))
        assert printed[-1] == b"tick 200\n"
        [gap] = gaps(api, task)
        assert "output may be missing here: the keeper of this worker died" in gap


@pytest.fixture
def own_engine(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine whose sandboxes outlive its restart."""
    archive = save_images(tmp_path_factory.mktemp("images") / "basic.tar", "sandbox/basic:latest")
    directory = Path(tempfile.mkdtemp(prefix="engine-", dir="/tmp"))  # a socket's path must be short
    with Engine(directory) as engine:
        engine.start(live_restore=True)
        engine.load(archive)
        yield engine


def test_output_after_a_crash_of_the_engine_is_recovered_and_a_gap_tells_of_it(
    own_engine: Engine, tmp_path: Path
) -> None:
    with (
        running_product(tmp_path / "data", **own_engine.environment) as product,
        httpx.Client(base_url=f"{product.url}/api/v1", timeout=60) as api,
    ):
        script = "for i in $(seq 1 2500); do echo $i; echo $i >&2; sleep 0.002; done; printf end"
        task = submit(api, run_manifest(script=script))
        for _ in range(2):
            before = len(raw_output(api, task))
            eventually("it goes on", lambda before=before: len(raw_output(api, task)) > before + 500)
            own_engine.kill()
            own_engine.start(live_restore=True)
        found = ended(api, task)
        assert found["state"] == "completed", found
        assert 1 <= len(gaps(api, task)) <= 4
        for stream, last in (("stdout", [b"end"]), ("stderr", [])):
            lines = raw_output(api, task, stream).splitlines()
            numbers = [int(line) for line in lines if line != b"end"]
            assert lines[len(numbers) :] == last
            assert numbers == sorted(set(numbers))
            assert numbers[-1] == 2500


def test_a_gap_tells_of_a_command_that_ended_while_the_engine_was_away(own_engine: Engine, tmp_path: Path) -> None:
    with (
        running_product(tmp_path / "data", **own_engine.environment) as product,
        httpx.Client(base_url=f"{product.url}/api/v1", timeout=60) as api,
    ):
        script = "echo one; until [ -e go ]; do sleep 0.05; done; sleep 0.5; echo two; touch /workspace/done"
        task = submit(api, run_manifest(script=script))
        eventually("it prints", lambda: raw_output(api, task) == b"one\n")
        [work] = product.work_directories()
        own_engine.kill()
        (work / "disk" / "workspace" / "go").touch()
        eventually("it has ended", (work / "disk" / "workspace" / "done").exists)
        own_engine.start(live_restore=True)
        ended(api, task)
        # What was in its pipe then, the engine does not read any more (20.10).
        assert raw_output(api, task) in (b"one\n", b"one\ntwo\n")
        [gap] = gaps(api, task)
        assert "the engine was restarted" in gap
