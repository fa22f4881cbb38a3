"""Images as tasks meet them: pulled with words in the log, exactly the one that was judged, and nothing of the host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.stack import Product, running_product
from tests.e2e.submitting import Json, ended, raw_output, run_manifest, submit
from tests.servers.registry import Registry

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry().running() as running:
        yield running
        argv = ["docker", "images", "--quiet", "--filter", f"reference={running.host}/*"]
        ids = set(subprocess.run(argv, capture_output=True, check=True, text=True).stdout.split())
        if ids:
            subprocess.run(["docker", "rmi", "--force", *ids], check=True, capture_output=True)


@pytest.fixture(scope="module")
def product(docker_engine: None, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    directory = tmp_path_factory.mktemp("images")
    profiles = {
        "basic": {"allowed_images": [f"{registry.host}/*"]},
        "pinned": {
            "image": "sandbox/basic:latest",
            "allowed_images": [f"{registry.host}/*"],
            "require_digest": True,
        },
    }
    (directory / "profiles.yaml").write_text(json.dumps(profiles))
    with running_product(directory / "data", SANDBOX_PROFILES=str(directory / "profiles.yaml")) as running:
        yield running


@pytest.fixture
def api(product: Product) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{product.url}/api/v1", timeout=60) as client:
        yield client


def with_image(image: str, script: str, profile: str = "basic") -> Json:
    manifest = run_manifest(command=["sh", "-c", script])
    manifest["run"]["image"] = image
    manifest["vm"]["profile"] = profile
    return manifest


READ = 'read -r word < /says; echo "$word"'


def test_a_pull_is_in_the_task_s_log_and_its_attempt_names_the_exact_image(
    api: httpx.Client, registry: Registry
) -> None:
    digest = registry.add_small("logged:1", "pulled\n", padding_bytes=4 << 20)
    name = f"{registry.host}/logged:1"
    task = ended(api, submit(api, with_image(name, READ)))
    assert (task["state"], raw_output(api, task["id"])) == ("completed", b"pulled\n"), task["outcome"]
    answer = api.get(f"/tasks/{task['id']}/logs", params={"format": "ndjson"})
    records = [json.loads(line) for line in answer.text.split("\n")[:-1]]
    said = [one["data"].strip() for one in records if one["stream"] == "system"]
    assert f"pulling image {name}" in said
    assert any(words.startswith(f"pulled image {name}: ") for words in said)
    attempt = task["attempts"][0]
    assert (attempt["image"], attempt["image_digest"]) == (name, f"{registry.host}/logged@{digest}")


def test_a_profile_that_wants_digests_refuses_a_tag_and_runs_what_the_digest_names(
    api: httpx.Client, registry: Registry
) -> None:
    digest = registry.add_small("pinned:1", "the one\n")
    refused = api.post("/tasks", json=with_image(f"{registry.host}/pinned:1", READ, "pinned"))
    assert refused.status_code == 400
    details = refused.json()["details"]
    assert (details["field"], details["validation"]) == ("run.image", "image_digest")
    name = f"{registry.host}/pinned@{digest}"
    task = ended(api, submit(api, with_image(name, READ, "pinned")))
    assert (raw_output(api, task["id"]), task["attempts"][0]["image_digest"]) == (b"the one\n", name)


def test_a_list_of_images_is_its_profile_s_own(api: httpx.Client, registry: Registry) -> None:
    answer = api.post("/tasks", json=with_image(f"{registry.host}/any:1", READ, "agentic-dev"))
    assert answer.status_code == 400
    assert answer.json()["details"]["validation"] == "image_not_allowed"


def test_a_place_that_an_image_declares_as_a_volume_is_limited_and_gone_with_the_sandbox(
    api: httpx.Client, registry: Registry, tmp_path: Path
) -> None:
    name = f"{registry.host}/volume:1"
    text = "FROM sandbox/basic:latest\nVOLUME /data\n"
    subprocess.run(["docker", "build", "--quiet", "--network", "none", "--tag", name, "-"], input=text.encode(),
                   capture_output=True, check=True)  # fmt: skip
    task = ended(api, submit(api, with_image(name, "touch /data/x && grep ' /data ' /proc/mounts")))
    assert task["state"] == "completed", task["outcome"]
    assert raw_output(api, task["id"]).startswith(b"tmpfs /data tmpfs rw,nosuid,nodev")
    assert b"size=" in raw_output(api, task["id"])


def test_a_worker_does_not_start_with_credentials_it_cannot_read(tmp_path: Path) -> None:
    settings = {"SANDBOX_REGISTRY_CONFIG": str(tmp_path / "gone.json"), "SANDBOX_DATA_DIR": str(tmp_path / "data")}
    argv = [sys.executable, "-m", "orchestrator.cli", "worker", "--name", "w"]
    ran = subprocess.run(argv, env={**os.environ, **settings}, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 2
    assert f"SANDBOX_REGISTRY_CONFIG={tmp_path}/gone.json cannot be used: No such file or directory" in ran.stderr
