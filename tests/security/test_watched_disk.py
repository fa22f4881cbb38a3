"""D1 where no kernel holds a task to its size: the worker watches, says so, and ends what wrote too much."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import missing
from tests.e2e.repositories import make_repository
from tests.e2e.stack import Product, loop_devices_below, running_product
from tests.e2e.submitting import Json, ended, raw_output, run_manifest, submit
from workers.task_disk import ImageDisk, WatchedDisk

pytestmark = pytest.mark.docker

MIB = 1 << 20
IMAGE = "sandbox-test/scratch:latest"
SCRATCH = "FROM sandbox/basic:latest\nUSER 0\nRUN mkdir -m 777 /scratch\n"
ALONE = ("unshare", "--mount", "--propagation=private")
"""Mounts of such a worker do not reach the engine, as in a container whose directory is not bound `rshared`."""


def client_of(product: Product) -> httpx.Client:
    return httpx.Client(base_url=f"{product.url}/api/v1", timeout=60)


@pytest.fixture(scope="module")
def watched_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("watched") / "data"


@pytest.fixture(scope="module")
def watched(docker_engine: None, watched_directory: Path) -> Iterator[httpx.Client]:
    if subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode != 0:
        missing("a mount namespace of the test's own", "run the tests as root")
    with running_product(watched_directory, wrapper=ALONE) as product, client_of(product) as client:
        yield client


@pytest.fixture(scope="module")
def writable(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A product whose profile `scratch` has a writable root, of an image with a directory for everybody."""
    directory = tmp_path_factory.mktemp("writable")
    subprocess.run(["docker", "build", "--quiet", "--network=none", "--tag", IMAGE, "-"], input=SCRATCH.encode(),
                   stdout=subprocess.DEVNULL, check=True)  # fmt: skip
    (directory / "profiles").write_text(json.dumps({"scratch": {"image": IMAGE, "writable_root": True}}))
    try:
        with (
            running_product(directory / "data", SANDBOX_PROFILES=str(directory / "profiles")) as product,
            client_of(product) as client,
        ):
            yield client
    finally:
        subprocess.run(["docker", "image", "rm", "--force", IMAGE], stdout=subprocess.DEVNULL, check=True)


def writing(script: str, size: str = "64M", profile: str = "basic", repository: str | None = None) -> Json:
    manifest = run_manifest(script=script, **({"repository": {"url": repository}} if repository else {}))
    manifest["vm"] |= {"disk": size, "profile": profile}
    return manifest


def assert_stopped(found: Json) -> None:
    assert (found["state"], found["outcome"]["reason"]) == ("failed", "disk_exceeded"), found["outcome"]
    assert "was stopped" in found["outcome"]["message"]
    assert "raise vm.disk" in found["outcome"]["hint"]


def test_d1_a_watched_task_that_writes_too_much_is_stopped_with_the_reason(watched: httpx.Client) -> None:
    found = ended(watched, submit(watched, writing("head -c 100M /dev/zero > /home/agent/large; sleep 600")))
    assert_stopped(found)
    assert found["applied"]["disk_bytes"] == {
        "requested": 64 * MIB, "effective": 64 * MIB, "mechanism": WatchedDisk.mechanism,
    }  # fmt: skip


def test_d2_a_watched_task_that_makes_too_many_files_is_stopped(watched: httpx.Client) -> None:
    assert_stopped(ended(watched, submit(watched, writing("seq 1 5000 | xargs touch; sleep 600"))))


def test_d1_a_watched_task_within_its_size_goes_on(watched: httpx.Client) -> None:
    task = submit(watched, writing("head -c 40M /dev/zero > large; truncate -s 1T sparse; sleep 12; echo done"))
    assert ended(watched, task)["state"] == "completed"
    assert raw_output(watched, task) == b"done\n"


def test_d1_a_watched_failure_that_ends_between_two_looks_is_explained(watched: httpx.Client) -> None:
    found = ended(watched, submit(watched, writing("fallocate -l 100M large; exit 3")))
    assert found["outcome"]["reason"] == "disk_exceeded"


def test_d1_a_watched_success_that_ends_between_two_looks_stays_one(watched: httpx.Client) -> None:
    """A look may fall between writing and ending; then the task is stopped, and another one is tried."""
    for _ in range(20):
        found = ended(watched, submit(watched, writing("fallocate -l 100M large; exit 0")))
        if found["state"] == "completed":
            assert found["outcome"]["reason"] == "exit_zero"
            return
        assert_stopped(found)
    pytest.fail("of 20 tasks that wrote too much and ended at once none was a success")


def test_d1_a_worker_that_watches_mounts_nothing(
    watched: httpx.Client, watched_directory: Path, tmp_path: Path
) -> None:
    upstream = make_repository(tmp_path / "upstream")
    task = submit(watched, writing("ls", repository=upstream.url))
    assert ended(watched, task)["state"] == "completed"
    assert b"README.md" in raw_output(watched, task)
    assert loop_devices_below(watched_directory) == []


def test_d1_what_is_written_into_a_writable_root_is_watched_beside_the_disk(writable: httpx.Client) -> None:
    task = submit(writable, writing("head -c 100M /dev/zero > /scratch/large; sleep 600", profile="scratch"))
    found = ended(writable, task)
    assert_stopped(found)
    mechanism = found["applied"]["disk_bytes"]["mechanism"]
    assert mechanism == f"{ImageDisk.mechanism}; the writable root {WatchedDisk.mechanism}"


def test_d1_a_little_in_a_writable_root_is_none_of_the_watch_s_business(writable: httpx.Client) -> None:
    task = submit(writable, writing("head -c 4M /dev/zero > /scratch/small; sleep 8; echo done", profile="scratch"))
    assert ended(writable, task)["state"] == "completed"
