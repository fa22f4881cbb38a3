"""Every ending is told with its reason, and leaves nothing behind."""

from __future__ import annotations

import shlex
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.e2e.stack import Product, eventually, running_product
from tests.e2e.submitting import ended, raw_output, run_manifest, state_of, submit
from workers.task_disk import ImageDisk
from workers.workspace import sandbox_user_id

pytestmark = pytest.mark.docker


def client(product: Product) -> httpx.Client:
    return httpx.Client(base_url=f"{product.url}/api/v1", timeout=60)


def test_a_missing_image_is_named_with_how_to_get_it(docker_engine: None, tmp_path: Path) -> None:
    profiles = tmp_path / "profiles.yaml"
    profiles.write_text("basic:\n  allowed_images: ['127.0.0.1:9/*']\n")
    with running_product(tmp_path / "data", SANDBOX_PROFILES=str(profiles)) as product, client(product) as api:
        manifest = run_manifest(command=["true"])
        manifest["run"]["image"] = "127.0.0.1:9/nowhere:1"
        outcome = ended(api, submit(api, manifest))["outcome"]
    assert outcome["reason"] == "image_unavailable"
    assert outcome["fault"] == "platform"
    assert "127.0.0.1:9/nowhere:1" in outcome["message"]
    assert "docker pull" in outcome["message"]


def test_a_missing_branch_fails_with_gits_own_words(api: httpx.Client, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path / "repository")], check=True)
    section = {"url": f"file://{tmp_path / 'repository'}", "branch": "nowhere"}
    task = ended(api, submit(api, run_manifest(command=["true"], repository=section)))
    assert task["state"] == "failed"
    assert task["outcome"]["reason"] == "clone_failed"
    assert task["outcome"]["fault"] == "user"
    assert "Remote branch nowhere not found" in task["outcome"]["message"]


def test_a_sandbox_removed_behind_our_back_is_a_sandbox_error(api: httpx.Client) -> None:
    task = submit(api, run_manifest(script="echo up; sleep 600"))
    eventually("it runs", lambda: b"up\n" in raw_output(api, task))
    sandbox = api.get(f"/tasks/{task}").json()["attempts"][0]["container_id"]
    subprocess.run(["docker", "rm", "--force", sandbox], check=True, capture_output=True)
    assert ended(api, task)["outcome"]["reason"] == "sandbox_error"


def test_a_task_no_worker_could_ever_hold_is_refused_at_once(api: httpx.Client) -> None:
    manifest = run_manifest(command=["true"])
    manifest["vm"]["cpus"] = 256
    answer = api.post("/tasks", json=manifest)
    assert answer.status_code == 507
    assert answer.json()["details"]["requested_cpus"] == 256


def test_a_network_nobody_enforces_is_refused_never_opened(api: httpx.Client) -> None:
    manifest = run_manifest(command=["true"])
    manifest["vm"]["network_mode"] = "full"
    answer = api.post("/tasks", json=manifest)
    assert answer.status_code == 507
    assert "full" in answer.json()["message"]


def test_applied_tells_what_is_enforced_and_what_is_not(api: httpx.Client) -> None:
    manifest = run_manifest(command=["true"])
    manifest["vm"] = {"profile": "basic"}
    applied = ended(api, submit(api, manifest))["applied"]
    assert applied["cpus"]["requested"] == 4
    assert applied["cpus"]["effective"] <= 4
    assert applied["memory_bytes"]["effective"] == 8 << 30
    assert applied["disk_bytes"] == {"requested": 40 << 30, "effective": 40 << 30, "mechanism": ImageDisk.mechanism}
    assert applied["network"]["effective"] == "isolated"


def test_a_preserved_sandbox_can_be_looked_into_and_is_gone_when_its_time_is_over(api: httpx.Client) -> None:
    lifecycle = {"failure_action": "preserve", "preserve_for": "10m"}
    task = ended(api, submit(api, run_manifest(script="echo kept > file.txt; exit 3", lifecycle=lifecycle)))
    assert task["state"] == "failed_preserved"
    sandbox = task["attempts"][0]["container_id"]
    copied = subprocess.run(["docker", "cp", f"{sandbox}:/workspace/file.txt", "-"], capture_output=True, check=True)
    assert b"kept" in copied.stdout
    assert f"docker cp {sandbox[:12]}" in task["outcome"]["hint"]
    look = shlex.split(task["outcome"]["hint"].split("`")[1].replace(" -it ", " "))
    seen = subprocess.run([*look, "-c", "cat file.txt; id -u; touch /x"], capture_output=True, check=False)
    assert seen.stdout.split() == [b"kept", str(sandbox_user_id()).encode()]
    assert b"Read-only file system" in seen.stderr

    assert api.delete(f"/tasks/{task['id']}/data").status_code == 204

    def gone() -> bool:
        return subprocess.run(["docker", "inspect", sandbox], capture_output=True, check=False).returncode != 0

    eventually("the preserved sandbox is destroyed", gone)
    assert state_of(api, task["id"]) == "failed_preserved"


def test_ctrl_c_ends_the_sandboxes_and_the_tasks_say_so(docker_engine: None, tmp_path: Path) -> None:
    product = Product(tmp_path / "data")
    product.start()
    with client(product) as api:
        task = submit(api, run_manifest(script="echo up; sleep 600"))
        eventually("it runs", lambda: b"up\n" in raw_output(api, task))
    assert product.stop(signal.SIGINT) == 0
    assert product.containers() == []
    product.start()
    with client(product) as api:
        assert ended(api, task)["outcome"]["reason"] == "worker_lost"
    product.stop()


def test_term_leaves_the_sandboxes_and_the_next_start_adopts_them(docker_engine: None, tmp_path: Path) -> None:
    product = Product(tmp_path / "data")
    product.start()
    with client(product) as api:
        script = 'for i in $(seq 1 150); do echo "tick $i"; sleep 0.05; done'
        task = submit(api, run_manifest(script=script))
        eventually("it runs", lambda: b"tick 10\n" in raw_output(api, task))
    product.stop(signal.SIGTERM)
    assert len(product.containers()) == 1
    product.start()
    with client(product) as api:
        found = ended(api, task)
        assert found["state"] == "completed", found
        assert len(found["attempts"]) == 1
        assert raw_output(api, task) == b"".join(b"tick %d\n" % number for number in range(1, 151))
    product.stop()
    assert product.containers() == []


@contextmanager
def engine_through(path: Path) -> Iterator[None]:
    """Reach the engine through a socket of the test's own, as long as the block lasts."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen(64)
    ends: list[socket.socket] = []

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                near, _ = server.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect("/var/run/docker.sock")
                ends.extend((near, far))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield
    finally:
        for end in (server, *ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        path.unlink()


def test_while_the_engine_is_away_tasks_wait_with_that_reason_and_run_when_it_is_back(
    docker_engine: None, tmp_path: Path
) -> None:
    path = tmp_path / "engine.sock"
    product = Product(
        tmp_path / "data", environment={"DOCKER_HOST": f"unix://{path}", "SANDBOX_HEARTBEAT_SECONDS": "0.5"}
    )
    with engine_through(path):
        product.start()
    try:
        with client(product) as api:

            def says_so() -> bool:
                answer = api.get("/health/ready")
                return answer.status_code == 503 and "engine" in answer.json()["details"]

            eventually("ready is 503 and names the engine", says_so)
            task = submit(api, run_manifest(command=["echo", "back"]))
            eventually("it says why it waits", lambda: "Engine" in api.get(f"/tasks/{task}").json()["state_message"])
            assert state_of(api, task) == "pending"
            with engine_through(path):
                assert ended(api, task)["state"] == "completed"
                assert raw_output(api, task) == b"back\n"
                product.stop()
    finally:
        product.stop()
    assert product.containers() == []
