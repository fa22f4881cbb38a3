"""Any process may die: nothing is lost, nothing runs twice, and what is said of it is true."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.e2e.stack import Product, eventually, running_product
from tests.e2e.submitting import ended, raw_output, run_manifest, submit
from tests.servers.process import free_port

pytestmark = pytest.mark.docker


def client(product: Product) -> httpx.Client:
    return httpx.Client(base_url=f"{product.url}/api/v1", timeout=60)


def kill_up(product: Product) -> None:
    assert product.process
    product.process.kill()
    product.process.wait()
    product.process = None


def test_up_killed_and_started_again_has_one_worker_and_prints_nothing_twice(
    docker_engine: None, tmp_path: Path
) -> None:
    with running_product(tmp_path / "data") as product, client(product) as api:
        task = submit(api, run_manifest(script='for i in $(seq 1 200); do echo "tick $i"; sleep 0.04; done'))
        eventually("it runs", lambda: b"tick 10\n" in raw_output(api, task))
        worker = product.child("worker")
        kill_up(product)
        eventually("its worker ends with it", lambda: not Path(f"/proc/{worker}").exists())
        product.start()
        found = ended(api, task)
        assert found["state"] == "completed", found
        assert raw_output(api, task) == b"".join(b"tick %d\n" % number for number in range(1, 201))


def test_a_sandbox_that_the_keeper_stopped_is_told_as_worker_lost(docker_engine: None, tmp_path: Path) -> None:
    short = {"SANDBOX_LEASE_SECONDS": "2", "SANDBOX_HEARTBEAT_SECONDS": "0.5"}
    with running_product(tmp_path / "data", **short) as product, client(product) as api:
        task = submit(api, run_manifest(script="echo up; sleep 600"))
        eventually("it runs", lambda: b"up\n" in raw_output(api, task))
        sandbox = api.get(f"/tasks/{task}").json()["attempts"][0]["container_id"]
        worker = product.child("worker")
        os.kill(worker, signal.SIGKILL)
        kill_up(product)

        def stopped() -> bool:
            argv = ["docker", "inspect", "--format", "{{.State.Running}}", sandbox]
            return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip() == "false"

        eventually("the keeper stops the sandbox of a worker that is gone", stopped)
        product.start()
        outcome = ended(api, task)["outcome"]
        assert outcome["reason"] == "worker_lost", outcome
        assert outcome["fault"] == "platform"


def test_a_retry_after_a_loss_is_another_attempt_with_its_own_log(docker_engine: None, tmp_path: Path) -> None:
    with running_product(tmp_path / "data") as product, client(product) as api:
        script = 'echo "attempt"; [ -e /workspace/never ] || sleep 600'
        lifecycle = {"retry": {"max_attempts": 2, "backoff": "0s"}, "timeout": "3s"}
        lifecycle["retry"]["on"] = ["timeout"]  # type: ignore[index]
        task = submit(api, run_manifest(script=script, lifecycle=lifecycle))
        found = ended(api, task)
        assert [one["outcome"]["reason"] for one in found["attempts"]] == ["timeout", "timeout"]
        assert found["state"] == "failed"
        one = api.get(f"/tasks/{task}/logs", params={"attempt": 1, "format": "raw", "stream": "stdout"}).content
        both = api.get(f"/tasks/{task}/logs", params={"attempt": "all", "format": "raw", "stream": "stdout"}).content
        assert (one, both) == (b"attempt\n", b"attempt\nattempt\n")


def test_up_on_a_taken_port_says_so_and_starts_nothing(tmp_path: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        argv = [sys.executable, "-m", "orchestrator.cli", "up", "--port", str(port), "--data-dir", str(tmp_path / "d")]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "--port" in done.stderr


def test_up_on_another_host_than_loopback_is_refused(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "orchestrator.cli", "up", "--host", "0.0.0.0", "--data-dir", str(tmp_path / "d")]  # noqa: S104 - that it is refused is the point
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "SANDBOX_ALLOW_OPEN=1" in done.stderr
