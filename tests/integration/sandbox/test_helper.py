"""One command of ours in a sandbox, to its end: what comes back, and that nothing stays."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.integration.sandbox.conftest import RunInside, SpecOf
from tests.integration.sandbox.engine_proxy import EngineProxy
from workers.commands.image import image
from workers.egress import EgressReport, EgressUnavailable
from workers.helper import OUTPUT_BYTES, HelperStopped
from workers.sandbox.docker.engine import DockerBackend
from workers.sandbox.port import ImageUnavailable

pytestmark = [
    pytest.mark.docker,
    # The SDK leaves sockets of calls that failed to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


def test_both_streams_and_the_exit_code_come_back(run_inside: RunInside) -> None:
    result = run_inside(["sh", "-c", r"echo out; printf 'err\377' >&2; exit 7"], directory="/tmp")
    assert (result.exit_code, result.stdout, result.stderr, result.egress) == (
        7,
        "out\n",
        "err\N{REPLACEMENT CHARACTER}",
        None,
    )


def test_of_much_output_the_end_is_kept(run_inside: RunInside) -> None:
    result = run_inside(["sh", "-c", "yes | head -c 2000000; echo the end"])
    assert result.exit_code == 0
    assert len(result.stdout) == OUTPUT_BYTES
    assert result.stdout.endswith("y\nthe end\n")


def test_a_helper_that_is_asked_to_end_is_gone_at_once(run_inside: RunInside, backend: DockerBackend) -> None:
    looks = count()
    with pytest.raises(HelperStopped, match="was asked to end"):
        run_inside(["sleep", "1000"], interrupted=lambda: next(looks) > 2)
    assert backend.find() == []


def test_a_helper_that_is_out_of_time_is_gone(run_inside: RunInside, backend: DockerBackend) -> None:
    with pytest.raises(HelperStopped, match="its time is over"):
        run_inside(["sh", "-c", "trap '' TERM; sleep 1000"], deadline=time.monotonic() + 1)
    assert backend.find() == []


def test_a_helper_without_its_way_out_is_not_started_and_is_gone(run_inside: RunInside, backend: DockerBackend) -> None:
    @contextmanager
    def refused(_: str) -> Iterator[EgressReport]:
        raise EgressUnavailable("not here")
        yield

    with pytest.raises(EgressUnavailable, match="not here"):
        run_inside(["true"], network=refused)
    assert backend.find() == []


def test_a_helper_that_dies_at_its_gate_tells_by_its_exit_code(run_inside: RunInside, backend: DockerBackend) -> None:
    @contextmanager
    def deadly(sandbox: str) -> Iterator[EgressReport]:
        process_id = backend.inspect(sandbox).process_id
        assert process_id
        os.kill(process_id, signal.SIGKILL)
        while Path(f"/proc/{process_id}").exists():
            time.sleep(0.01)
        yield EgressReport()

    if os.geteuid() != 0:
        pytest.skip("only root may kill it from here")
    assert run_inside(["true"], network=deadly).exit_code == 137


def test_an_image_that_is_missing_leaves_nothing(
    run_inside: RunInside, spec_of: SpecOf, backend: DockerBackend
) -> None:
    with pytest.raises(ImageUnavailable):
        run_inside(["true"], spec_of(image="sandbox/no-such-image:latest"))
    assert backend.find() == []


def test_the_images_of_the_profiles_are_listed_with_how_to_make_a_missing_one(
    engine_proxy: EngineProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "profiles.yaml").write_text("gpu: {image: 'no-such/image:1'}\n")
    monkeypatch.setenv("SANDBOX_PROFILES", str(tmp_path / "profiles.yaml"))
    monkeypatch.setenv("COLUMNS", "200")
    result = CliRunner().invoke(image, ["list"])
    assert result.exit_code == 0, result.output
    lines = {line.split()[0]: line.split()[1:3] for line in result.stdout.splitlines()}
    assert lines["basic"][0] == "sandbox/basic:latest"
    assert lines["gpu"] == ["no-such/image:1", "missing"]
    assert engine_proxy.connections  # DOCKER_HOST decides, here as everywhere


def test_without_an_engine_the_images_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    result = CliRunner().invoke(image, ["list"])
    assert result.exit_code == 70  # a fault of this machine
    assert "start it, or set DOCKER_HOST" in result.output
