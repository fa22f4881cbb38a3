"""Pulls from a registry of the test's own: by name, by digest, with credentials, and with what a registry may do."""

from __future__ import annotations

import base64
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.servers.registry import Registry, digest_of
from workers.sandbox.docker.engine import DockerBackend
from workers.sandbox.port import Image, ImageUnavailable

pytestmark = [
    pytest.mark.docker,
    # The SDK leaves sockets of calls that failed to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

PASSWORD = "pass:word-8122"


@pytest.fixture
def registry(engine: docker.APIClient) -> Iterator[Registry]:
    """Whatever was pulled from it is removed again."""
    with Registry().running() as running:
        yield running
        for image in engine.images():
            names = [*(image["RepoTags"] or ()), *(image["RepoDigests"] or ())]
            if any(name.startswith(f"{running.host}/") for name in names):
                engine.remove_image(image["Id"], force=True)


def config_with(directory: Path, registry: Registry, account: str) -> Path:
    path = directory / f"{uuid.uuid4().hex}.json"
    path.write_text(json.dumps({"auths": {registry.host: {"auth": base64.b64encode(account.encode()).decode()}}}))
    return path


def pulled(image: str, config: Path | None = None) -> tuple[Image, list[str]]:
    """The image, and what was said of the pull."""
    backend, said = DockerBackend("test", "worker", config), []
    try:
        return backend.pull(image, interrupted=lambda: False, say=said.append), said
    finally:
        backend.close()


def test_a_pull_tells_its_beginning_its_progress_and_its_end(registry: Registry) -> None:
    registry.add_small("team/tool:1", "hello", padding_bytes=8 << 20)
    registry.pause_seconds = 0.02
    name = f"{registry.host}/team/tool:1"
    image, said = pulled(name)
    assert said[0] == f"pulling image {name}"
    assert any(
        line.startswith(f"pulling image {name}: ") and " MB of " in line and " %)" in line for line in said[1:-1]
    )
    assert said[-1].startswith(f"pulled image {name}: ")
    assert image.digest == f"{registry.host}/team/tool@{digest_of(registry.images['team/tool:1'])}"
    assert image.id.startswith("sha256:")
    assert pulled(name) == (image, []), "what is here is not pulled again"


def test_an_image_named_by_digest_is_that_image_whatever_its_tag_means_by_now(registry: Registry) -> None:
    first = registry.add_small("tool:1", "first")
    kept = registry.images["tool:1"]
    registry.add_small("tool:1", "second")
    registry.images["tool:kept"] = kept
    name = f"{registry.host}/tool@{first}"
    image, _ = pulled(name)
    assert image.digest == name
    other, _ = pulled(f"{registry.host}/tool:1")
    assert other.id != image.id
    assert pulled(f"{registry.host}/tool:1@{first}")[0].id == image.id


def test_a_registry_that_sends_another_image_than_the_digest_says_is_refused(registry: Registry) -> None:
    registry.add_small("tool:1", "something else")
    name = f"{registry.host}/tool@sha256:{'1' * 64}"
    with pytest.raises(ImageUnavailable, match="verification failed") as refused:
        pulled(name)
    assert name in str(refused.value)


def test_a_layer_that_is_not_what_its_digest_says_is_refused(registry: Registry) -> None:
    registry.add_small("tool:1", "something")
    [layer] = [digest for digest, data in registry.blobs.items() if len(data) > 100_000]
    registry.blobs[layer] = registry.blobs[layer][:-1] + b"!"
    with pytest.raises(ImageUnavailable, match="verification failed"):
        pulled(f"{registry.host}/tool:1")


def test_a_private_registry_is_given_the_operator_s_credentials(registry: Registry, tmp_path: Path) -> None:
    registry.account = f"robot:{PASSWORD}"
    registry.add_small("tool:1", "private")
    name = f"{registry.host}/tool:1"
    image, said = pulled(name, config_with(tmp_path, registry, registry.account))
    assert image.name == name
    assert PASSWORD not in " ".join(said)


@pytest.mark.parametrize("account", ["robot:wrong-8122", None])
def test_wrong_or_no_credentials_are_told_and_never_shown(
    registry: Registry, tmp_path: Path, account: str | None
) -> None:
    registry.account = f"robot:{PASSWORD}"
    registry.add_small("tool:1", "private")
    config = config_with(tmp_path, registry, account) if account else None
    with pytest.raises(ImageUnavailable, match=r"auth|credential") as refused:
        pulled(f"{registry.host}/tool:1", config)
    assert "wrong-8122" not in str(refused.value)
    assert not any(allowed for _, allowed in registry.asked)


def test_another_registry_is_not_given_the_credentials(registry: Registry, tmp_path: Path) -> None:
    registry.add_small("tool:1", "public")
    registry.account = f"robot:{PASSWORD}"
    config = tmp_path / "config.json"
    auth = base64.b64encode(registry.account.encode()).decode()
    config.write_text(json.dumps({"auths": {"other.example": {"auth": auth}}}))
    with pytest.raises(ImageUnavailable):
        pulled(f"{registry.host}/tool:1", config)
    assert not any(allowed for _, allowed in registry.asked)


def test_the_worker_s_own_docker_login_is_not_used(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.account = f"robot:{PASSWORD}"
    registry.add_small("tool:1", "private")
    config_with(tmp_path, registry, registry.account).rename(tmp_path / "config.json")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with pytest.raises(ImageUnavailable):
        pulled(f"{registry.host}/tool:1")


def test_credentials_are_read_at_the_pull_and_their_loss_is_told(registry: Registry, tmp_path: Path) -> None:
    registry.add_small("tool:1", "public")
    gone = tmp_path / "gone.json"
    with pytest.raises(ImageUnavailable, match=r"SANDBOX_REGISTRY_CONFIG=.*No such file"):
        pulled(f"{registry.host}/tool:1", gone)


def test_a_pull_that_is_not_wanted_any_more_leaves_no_process(registry: Registry) -> None:
    registry.add_small("tool:1", "slow", padding_bytes=8 << 20)
    registry.pause_seconds = 1.0
    name, backend = f"{registry.host}/tool:1", DockerBackend("test", "worker")
    with pytest.raises(ImageUnavailable, match="was stopped"):
        backend.pull(name, interrupted=lambda: any("/blobs/" in path for path, _ in registry.asked), say=lambda _: None)
    backend.close()
    lines = [file.read_bytes() for file in Path("/proc").glob("[0-9]*/cmdline") if os.access(file, os.R_OK)]
    assert not any(name.encode() in line and b"docker.pull" in line for line in lines)
