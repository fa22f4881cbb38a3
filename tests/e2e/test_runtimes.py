"""Engines that are set up for hostile tenants: gVisor as a profile's runtime, and user ids that are not the host's.

Each test runs the product on a second engine of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import missing
from tests.e2e.faults.second_engine import loaded_engine
from tests.e2e.repositories import make_repository
from tests.e2e.stack import Product, eventually
from tests.e2e.submitting import Json, ended, raw_output, run_manifest, state_of, submit
from tests.servers.engine import Engine

pytestmark = pytest.mark.docker

FIRST_USER_ID = 200_000
PROFILES = """
gvisor: {image: 'sandbox/basic:latest', runtime: runsc}
closed: {image: 'sandbox/basic:latest', runtime: runsc-own-network}
boundless: {image: 'sandbox/basic:latest', runtime: runsc-boundless}
unknown: {image: 'sandbox/basic:latest', runtime: nowhere}
"""


def gvisor(*arguments: str) -> Json:
    program = shutil.which("runsc")
    if program is None:
        missing("gVisor", "install the package runsc, or run .ci/install")
    return {"path": program, "runtimeArgs": ["--platform=ptrace", *arguments]}


@pytest.fixture(scope="module")
def engine_with_gvisor(docker_engine: None) -> Iterator[Engine]:
    runtimes = {
        "runsc": gvisor("--network=host"),
        "runsc-own-network": gvisor("--network=none"),
        "runsc-boundless": gvisor("--network=host", "--ignore-cgroups"),
    }
    with loaded_engine(configuration={"runtimes": runtimes}) as engine:
        yield engine


@pytest.fixture(scope="module")
def sheltered(engine_with_gvisor: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A product on that engine."""
    directory = tmp_path_factory.mktemp("sheltered")
    (directory / "profiles.yaml").write_text(PROFILES)
    settings = {"SANDBOX_PROFILES": str(directory / "profiles.yaml")}
    yield from product_on(engine_with_gvisor, directory / "data", settings)


def product_on(engine: Engine, data_dir: Path, settings: dict[str, str]) -> Iterator[Product]:
    product = Product(data_dir, environment={**engine.environment, **settings})
    product.start()
    try:
        yield product
    finally:
        product.stop()
    assert containers(engine) == ""


def containers(engine: Engine) -> str:
    argv = ["docker", "ps", "--all", "--quiet"]
    return subprocess.run(
        argv, env={**os.environ, **engine.environment}, capture_output=True, check=True, text=True
    ).stdout


@pytest.fixture
def api(sheltered: Product) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{sheltered.url}/api/v1", timeout=60) as client:
        yield client


def task_of(profile: str, **given: Any) -> Json:
    manifest = run_manifest(**given)
    manifest["vm"] |= {"profile": profile, "memory": "256M"}
    return manifest


def test_a_task_in_gvisor_runs_on_another_kernel_and_its_exit_code_output_and_artifacts_are_as_ever(
    api: httpx.Client,
) -> None:
    script = "dmesg | head -1; id -u; echo wrong >&2; echo made > result.txt; exit 3"
    lifecycle = {"artifact_patterns": ["*.txt"]}
    task = ended(api, submit(api, task_of("gvisor", script=script, lifecycle=lifecycle)))
    assert (task["state"], task["exit_code"]) == ("failed", 3), task["outcome"]
    assert task["outcome"]["reason"] == "exit_nonzero"
    first, user = raw_output(api, task["id"]).decode().splitlines()
    assert "gVisor" in first
    assert user == "1000"
    assert raw_output(api, task["id"], "stderr") == b"wrong\n"
    assert [one["path"] for one in api.get(f"/tasks/{task['id']}/artifacts").json()["artifacts"]] == ["result.txt"]
    assert (task["applied"]["runtime"]["requested"], task["applied"]["runtime"]["effective"]) == ("runsc", "runsc")


def test_a_memory_bomb_in_gvisor_is_killed_at_the_task_s_limit(api: httpx.Client) -> None:
    """The engine tells of the kill in an event of its own; with runsc it may come too late to be the task's reason."""
    for _ in range(4):
        task = ended(api, submit(api, task_of("gvisor", command=["python3", "-c", "b'x' * (1 << 30)"])))
        assert (task["state"], task["exit_code"]) == ("failed", 137)
        if task["outcome"]["reason"] == "oom_killed":
            return
        assert task["outcome"]["reason"] == "exit_nonzero", task["outcome"]
    pytest.fail("of four memory bombs none was told as one")


def test_a_task_in_gvisor_is_cancelled(api: httpx.Client) -> None:
    task = submit(api, task_of("gvisor", script="echo up; sleep 600"))
    eventually("it runs", lambda: raw_output(api, task) == b"up\n")
    assert api.delete(f"/tasks/{task}", params={"wait": 60}).status_code == 200
    assert ended(api, task)["state"] == "cancelled"


def test_a_profile_whose_runtime_is_missing_or_sets_no_limits_is_not_offered(api: httpx.Client) -> None:
    [worker] = api.get("/workers").json()["workers"]
    assert set(worker["profiles"]) == {"basic", "agentic-dev", "gvisor", "closed"}
    for profile in ("boundless", "unknown"):
        answer = api.post("/tasks", json=task_of(profile, command=["true"]))
        assert answer.status_code == 507, answer.text
        assert profile in answer.json()["message"]


def test_a_way_out_that_a_runtime_does_not_lead_to_is_refused_before_anything_runs(api: httpx.Client) -> None:
    manifest = task_of("closed", command=["true"])
    manifest["vm"] |= {"network_mode": "outbound", "allowed_hosts": ["example.org"]}
    task = ended(api, submit(api, manifest))
    assert task["outcome"]["reason"] == "sandbox_error"
    assert "network stack of its own" in task["outcome"]["message"]
    assert "--network=host" in task["outcome"]["hint"]


ASK_THE_PROXY = """
import socket
proxy = socket.create_connection(("127.0.0.1", 3128), 30)
proxy.sendall(b"CONNECT other.example:443 HTTP/1.1\\r\\nHost: other.example:443\\r\\n\\r\\n")
print(proxy.recv(1000).split()[1].decode())
"""


def test_gvisor_that_uses_the_namespace_s_sockets_reaches_the_way_out_and_nothing_else(api: httpx.Client) -> None:
    manifest = task_of("gvisor", command=["python3", "-c", ASK_THE_PROXY])
    manifest["vm"] |= {"network_mode": "outbound", "allowed_hosts": ["example.org"]}
    task = ended(api, submit(api, manifest))
    assert (task["state"], raw_output(api, task["id"])) == ("completed", b"403\n"), task["outcome"]


def test_a_repository_is_cloned_in_gvisor_too(api: httpx.Client, tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository")
    task = ended(api, submit(api, task_of("gvisor", script="cat docs/notes.md", repository={"url": repository.url})))
    assert task["state"] == "completed", task["outcome"]
    assert raw_output(api, task["id"]).startswith(b"# Notes")
    assert task["attempts"][0]["commit"] == repository.head


def test_other_profiles_on_that_engine_keep_the_engine_s_own_runtime(api: httpx.Client) -> None:
    task = ended(api, submit(api, run_manifest(command=["true"])))
    assert task["state"] == "completed"
    assert task["applied"]["runtime"]["effective"] == "runc"


def let_others_pass(directory: Path) -> None:
    """The mapped user must reach what lies in pytest's own directories."""
    for one in (directory, *directory.parents):
        if one.stat().st_uid == os.geteuid() and not one.stat().st_mode & 0o001:
            one.chmod(0o711)


@pytest.fixture(scope="module")
def remapped(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A product on an engine with userns-remap."""
    directory = tmp_path_factory.mktemp("remapped")
    let_others_pass(directory)
    with loaded_engine(first_user_id=FIRST_USER_ID) as engine:
        yield from product_on(engine, directory / "data", {"SANDBOX_FILE_REPOSITORIES": "true"})


def test_with_mapped_user_ids_a_task_clones_writes_and_leaves_artifacts_as_ever(
    remapped: Product, tmp_path: Path
) -> None:
    repository = make_repository(tmp_path / "repository")
    let_others_pass(tmp_path)
    script = "cat /proc/self/uid_map; id -u; echo made > result.txt; touch ~/x; git add result.txt; git log --oneline"
    manifest = run_manifest(
        script=script, lifecycle={"artifact_patterns": ["*.txt"]}, repository={"url": repository.url}
    )
    with httpx.Client(base_url=f"{remapped.url}/api/v1", timeout=60) as api:
        task = ended(api, submit(api, manifest))
        assert task["state"] == "completed", (task["outcome"], raw_output(api, task["id"], "stderr"))
        lines = raw_output(api, task["id"]).decode().splitlines()
        assert lines[0].split() == ["0", str(FIRST_USER_ID), "65536"]
        assert (lines[1], lines[2].endswith(" Add notes")) == ("1000", True)
        kept = {one["path"] for one in api.get(f"/tasks/{task['id']}/artifacts").json()["artifacts"]}
        assert "result.txt" in kept
        assert task["applied"]["user"]["effective"] == f"1000, on the host {FIRST_USER_ID + 1000}"


def test_with_mapped_user_ids_the_workspace_belongs_to_the_mapped_user(remapped: Product) -> None:
    with httpx.Client(base_url=f"{remapped.url}/api/v1", timeout=60) as api:
        task = submit(api, run_manifest(script="touch mine; echo up; sleep 600"))
        eventually("it runs", lambda: raw_output(api, task) == b"up\n")
        [mine] = remapped.directory.glob(f"work/{task}.1/**/workspace/mine")
        assert (mine.stat().st_uid, mine.stat().st_gid) == (FIRST_USER_ID + 1000, FIRST_USER_ID + 1000)
        assert state_of(api, task) == "running"
        api.delete(f"/tasks/{task}", params={"wait": 60})
        assert ended(api, task)["state"] == "cancelled"
