"""D1 to D6: a task writes what `vm.disk` allows and no more, is told so, and leaves no file system behind."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.repositories import make_repository
from tests.e2e.stack import Product, eventually, loop_devices_below, mounts_below, running_product
from tests.e2e.submitting import Json, ended, raw_output, run_manifest, submit
from workers.task_disk import ImageDisk

pytestmark = pytest.mark.docker

MIB = 1 << 20
SLACK_BYTES = 64 * MIB
"""What a full disk may take of the host beside the task's files: the file system's own structures."""
FILL = "dd if=/dev/zero of=/workspace/fill bs=1M 2>/workspace/said"
WAIT = "until [ -e /home/agent/go ]; do sleep 0.1; done"
ARTIFACTS_AT_MOST = 100


@pytest.fixture(scope="module")
def product(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    directory = tmp_path_factory.mktemp("disk") / "data"
    with running_product(directory, SANDBOX_ARTIFACT_MAX_COUNT=str(ARTIFACTS_AT_MOST)) as running:
        yield running


@pytest.fixture
def api(product: Product) -> Iterator[httpx.Client]:
    with client_of(product) as client:
        yield client


def client_of(product: Product) -> httpx.Client:
    return httpx.Client(base_url=f"{product.url}/api/v1", timeout=60)


def on_disk(size: str, script: str, *, patterns: tuple[str, ...] = (), **sections: Any) -> Json:
    manifest = run_manifest(script=script, lifecycle={"artifact_patterns": list(patterns)}, **sections)
    manifest["vm"]["disk"] = size
    return manifest


def attempt_directory(product: Product, task: str, number: int = 1) -> Path:
    return product.directory / "work" / f"{task}.{number}"


def printed(api: httpx.Client, task: str, line: bytes) -> Callable[[], bool]:
    return lambda: line in raw_output(api, task).splitlines()


def let_go(product: Product, task: str) -> None:
    (attempt_directory(product, task) / "disk" / "home" / "go").touch()


def said(api: httpx.Client, task: str) -> str:
    return api.get(f"/tasks/{task}/logs", params={"format": "ndjson", "attempt": "all"}).text


def test_d1_a_task_that_fills_its_disk_fails_with_the_reason_and_the_host_keeps_its_space(
    product: Product, api: httpx.Client
) -> None:
    task = submit(api, on_disk("100M", f"{FILL} || {{ touch /home/agent/full; echo full; {WAIT}; exit 3; }}"))
    eventually("its disk is full", printed(api, task, b"full"))
    # Not the host's free space, which others change meanwhile.
    taken = (attempt_directory(product, task) / "disk.img").stat().st_blocks * 512
    assert taken + SLACK_BYTES >= 100 * MIB
    assert taken <= 100 * MIB + SLACK_BYTES
    assert api.get("/health").status_code == 200
    let_go(product, task)
    found = ended(api, task)
    assert found["state"] == "failed"
    assert (found["outcome"]["reason"], found["outcome"]["fault"]) == ("disk_exceeded", "user")
    assert found["outcome"]["exit_code"] == 3
    assert "100M" in found["outcome"]["message"]
    assert "raise vm.disk" in found["outcome"]["hint"]
    size = 100 * MIB
    assert found["applied"]["disk_bytes"] == {"requested": size, "effective": size, "mechanism": ImageDisk.mechanism}


def test_d1_all_of_the_size_is_for_files_and_home_and_workspace_share_it(api: httpx.Client) -> None:
    script = "head -c 50M /dev/zero > /workspace/half && head -c 50M /dev/zero > /home/agent/half && echo both"
    task = submit(api, on_disk("100M", f"{script}; ! head -c 4M /dev/zero > /home/agent/more 2>/dev/null"))
    assert ended(api, task)["state"] == "completed"
    assert raw_output(api, task) == b"both\n"


def test_d1_a_success_stays_one_on_a_full_disk(api: httpx.Client) -> None:
    found = ended(api, submit(api, on_disk("64M", f"{FILL} || true")))
    assert (found["state"], found["outcome"]["reason"]) == ("completed", "exit_zero")


def test_d1_a_disk_that_was_full_while_the_command_ran_explains_its_failure(api: httpx.Client) -> None:
    script = f"{FILL} || sleep 3; rm /workspace/fill; exit 1"
    assert ended(api, submit(api, on_disk("64M", script)))["outcome"]["reason"] == "disk_exceeded"


def test_d1_a_failure_with_room_left_is_no_matter_of_the_disk(api: httpx.Client) -> None:
    assert ended(api, submit(api, on_disk("64M", "exit 1")))["outcome"]["reason"] == "exit_nonzero"


def test_d1_a_repository_that_does_not_fit_fails_with_the_reason(api: httpx.Client, tmp_path: Path) -> None:
    upstream = make_repository(tmp_path / "upstream")
    (upstream.path / "large.bin").write_bytes(os.urandom(24 * MIB))
    git = ["git", "-C", str(upstream.path), "-c", "user.name=t", "-c", "user.email=t@example.test"]
    subprocess.run([*git, "add", "large.bin"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "large"], check=True)
    task = submit(api, on_disk("16M", "true", repository={"url": upstream.url}))
    found = ended(api, task)
    assert (found["state"], found["outcome"]["reason"]) == ("failed", "disk_exceeded"), found["outcome"]
    assert "does not fit" in found["outcome"]["message"]
    assert "try 2" not in said(api, task)


def test_d2_a_million_files_end_when_the_inodes_do_and_collection_keeps_its_limits(api: httpx.Client) -> None:
    script = "mkdir many; cd many; seq 1 1000000 | xargs sh -c 'touch \"$@\" 2>/dev/null || exit 255' sh"
    task = submit(api, on_disk("64M", script, patterns=("many/*",)))
    found = ended(api, task)
    assert found["outcome"]["reason"] == "disk_exceeded", found["outcome"]
    assert "no more files" in found["outcome"]["message"]
    listed = api.get(f"/tasks/{task}/artifacts").json()
    assert len(listed["artifacts"]) == ARTIFACTS_AT_MOST
    assert "more artifacts were refused" in said(api, task)


def test_d3_a_sparse_file_takes_no_space_and_is_refused_as_an_artifact_by_its_size(
    product: Product, api: httpx.Client
) -> None:
    script = f"truncate -s 1T sparse; echo made; {WAIT}"
    task = submit(api, on_disk("64M", script, patterns=("sparse",)))
    eventually("it is made", printed(api, task, b"made"))
    assert (attempt_directory(product, task) / "disk.img").stat().st_blocks * 512 < 16 * MIB
    let_go(product, task)
    assert ended(api, task)["state"] == "completed"
    assert api.get(f"/tasks/{task}/artifacts").json()["artifacts"] == []
    assert "artifact sparse refused" in said(api, task)


def test_d5_a_worker_killed_between_any_two_steps_of_a_disk_leaves_none(docker_engine: None, tmp_path: Path) -> None:
    points = (
        "disk_made", "disk_attached", "disk_mounted", "workspace_made", "sandbox_created", "sandbox_started",
        "disk_unmounted", "sandbox_stopped", "artifacts_stored", "concluded",
    )  # fmt: skip
    faults = ",".join(f"kill@{point}" for point in points)
    with running_product(tmp_path / "data", SANDBOX_TEST_FAULTS=faults) as product, client_of(product) as api:
        ends = []
        while not {file.name.split(".")[0] for file in product.directory.rglob("*.0")} >= set(points):
            task = submit(api, on_disk("64M", "echo kept > kept; sync", patterns=("kept",)))
            ends.append(ended(api, task)["outcome"]["reason"])
        assert set(ends) <= {"exit_zero", "worker_lost"}, ends
        task = submit(api, on_disk("64M", "echo kept > kept; sync", patterns=("kept",)))
        found = ended(api, task)
        assert found["state"] == "completed", found["outcome"]
        assert api.get(f"/tasks/{task}/artifacts").json()["artifacts"][0]["path"] == "kept"
        eventually("its directory is removed", lambda: not product.work_directories())
        assert mounts_below(product.directory) == []
        assert loop_devices_below(product.directory) == []


def test_d5_a_preserved_sandbox_keeps_its_disk_and_gets_it_back_after_a_boot(
    docker_engine: None, tmp_path: Path
) -> None:
    with running_product(tmp_path / "data") as product, client_of(product) as api:
        manifest = on_disk("64M", "echo seen > seen; exit 1")
        manifest["lifecycle"] |= {"failure_action": "preserve", "preserve_for": "1h"}
        task = submit(api, manifest)
        found = ended(api, task)
        assert found["state"] == "failed_preserved"
        seen = attempt_directory(product, task) / "disk" / "workspace" / "seen"
        assert seen.read_text() == "seen\n"
        product.stop()
        subprocess.run(["umount", str(seen.parent.parent)], check=True)  # as a boot of the host does
        product.start()
        eventually("its disk is mounted again", seen.exists)
        assert api.delete(f"/tasks/{task}/data").status_code == 204
        eventually("it is destroyed", lambda: not product.work_directories())


def test_d5_what_a_boot_of_the_host_unmounted_is_mounted_again_to_collect_it(
    docker_engine: None, tmp_path: Path
) -> None:
    with running_product(tmp_path / "data") as product, client_of(product) as api:
        task = submit(api, on_disk("64M", "echo kept > kept; echo made; sleep 600", patterns=("kept",)))
        eventually("it has written", printed(api, task, b"made"))
        product.stop(signal.SIGTERM)
        subprocess.run(["docker", "kill", *product.containers()], stdout=subprocess.DEVNULL, check=True)
        subprocess.run(["umount", str(attempt_directory(product, task) / "disk")], check=True)
        product.start()
        assert ended(api, task)["state"] == "failed"
        assert [one["path"] for one in api.get(f"/tasks/{task}/artifacts").json()["artifacts"]] == ["kept"]


def test_d6_a_full_disk_takes_nothing_from_the_task_beside_it(product: Product, api: httpx.Client) -> None:
    free = "stat --file-system --format %a /workspace"
    beside = submit(api, on_disk("64M", f"{free}; {WAIT}; {free}"))
    eventually("it has looked", lambda: len(raw_output(api, beside).split()) == 1)
    full = submit(api, on_disk("64M", f"{FILL} || true"))
    assert ended(api, full)["state"] == "completed"
    let_go(product, beside)
    assert ended(api, beside)["state"] == "completed"
    before, after = (int(blocks) for blocks in raw_output(api, beside).split())
    assert abs(before - after) <= 2  # the file that lets it go on
