"""`docker-compose up` from the checkout: a task is followed, the worker dies twice, nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.composed import Composed, composed, run
from tests.e2e.stack import eventually
from tests.e2e.submitting import ended, raw_output, run_manifest, submit

pytestmark = pytest.mark.docker

LINES = 400
SCRIPT = f"for i in $(seq 1 {LINES}); do echo line $i; sleep 0.05; done; ls /workspace > listed.txt"
SERVICES = ("postgres", "rabbitmq", "keeper", "worker", "api")


@pytest.fixture(scope="module")
def project(docker_engine: None) -> Iterator[Composed]:
    with composed() as up:
        yield up


@pytest.fixture
def api(project: Composed) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{project.url}/api/v1", timeout=60) as client:
        yield client


def test_every_service_becomes_healthy(project: Composed) -> None:
    for service in SERVICES:
        eventually(f"{service} is healthy", lambda service=service: project.is_healthy(service), 120)


def test_only_the_api_is_published_and_only_on_loopback(project: Composed) -> None:
    published = {
        binding["HostIp"]
        for service in SERVICES
        for bindings in project.container(service)["NetworkSettings"]["Ports"].values()
        for binding in bindings or ()
    }
    assert published == {"127.0.0.1"}
    bound = {service for service in SERVICES if project.container(service)["HostConfig"]["PortBindings"]}
    assert bound == {"api"}


def test_the_api_is_not_root_and_its_files_are_read_only(project: Composed) -> None:
    api = project.container("api")
    assert api["Config"]["User"] == "10001:10001"
    assert api["HostConfig"]["ReadonlyRootfs"] is True
    assert api["HostConfig"]["CapDrop"] == ["ALL"]


def test_the_doctor_finds_the_data_directory_at_the_same_path_on_the_engine(project: Composed) -> None:
    said = project.compose("exec", "-T", "worker", "sandbox", "doctor")
    assert f"{project.directory} is bound rshared at the same path" in said
    assert ("not privileged" in said) is not project.privileged


def test_a_followed_task_survives_two_deaths_of_its_worker_with_every_line_once(
    project: Composed, api: httpx.Client, tmp_path: Path
) -> None:
    keeper = project.container("keeper")["State"]["StartedAt"]
    task = submit(api, run_manifest(script=SCRIPT, lifecycle={"artifact_patterns": ["listed.txt"]}))
    argv = [sys.executable, "-m", "orchestrator.cli", "task", "logs", "--follow", "--server", project.url, task]
    with (tmp_path / "followed").open("w+") as followed, subprocess.Popen(argv, stdout=followed) as follower:
        try:
            eventually("it runs", lambda: b"line 20\n" in raw_output(api, task), 120)
            _crash(project)
            eventually("the next worker goes on", lambda: b"line 200\n" in raw_output(api, task), 120)
            run("docker", "kill", project.container("worker")["Id"])
            project.up()
            follower.wait(180)
        finally:
            follower.kill()

    found = ended(api, task)
    assert found["state"] == "completed", found
    assert len(found["attempts"]) == 1
    expected = "".join(f"line {number}\n" for number in range(1, LINES + 1))
    assert raw_output(api, task) == expected.encode()
    assert (tmp_path / "followed").read_text() == expected
    assert api.get(f"/tasks/{task}/artifacts/listed.txt").content == b"listed.txt\n"
    assert project.container("keeper")["State"]["StartedAt"] == keeper


def _crash(project: Composed) -> None:
    """The process dies by itself: the engine starts the container again."""
    before = project.container("worker")["State"]["Pid"]
    os.kill(before, signal.SIGKILL)
    eventually("the engine starts it again", lambda: project.container("worker")["State"]["Pid"] not in {0, before})


def test_a_checkout_that_is_down_leaves_its_data_to_the_next_start(project: Composed, api: httpx.Client) -> None:
    task = submit(api, run_manifest(script="echo kept"))
    ended(api, task)
    project.compose("down")
    project.up()
    eventually("the api is healthy", lambda: project.is_healthy("api"), 120)
    assert raw_output(api, task) == b"kept\n"
    assert ended(api, submit(api, run_manifest(command=["true"])))["state"] == "completed"
