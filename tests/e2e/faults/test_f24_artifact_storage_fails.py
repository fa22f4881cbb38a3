"""F24: the artifact storage is down, fails or gets other bytes while a task ends. What the task left is not lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.faults.installation import PATIENT, Installation
from tests.e2e.faults.running import Install
from tests.e2e.faults.scripts import ARTIFACT, ticking_task
from tests.e2e.stack import eventually
from tests.e2e.submitting import Json
from tests.integration.artifacts.faulty_front import Answer, Call, FaultyFront, closed, refusal, silence
from tests.servers.s3 import S3Server

pytestmark = pytest.mark.docker

BUCKET = "artifacts"
COUNT = 20
WAYS: dict[str, Callable[[FaultyFront, Call], Answer]] = {
    "down": lambda _front, _call: closed(),
    "answers-500": lambda _front, _call: refusal(500, "InternalError"),
    "gets-other-bytes": lambda front, call: front.pass_on(replace(call, body=b"not " + call.body)),
    "hangs": lambda _front, _call: silence(),
}
QUICK = ("down", "answers-500", "gets-other-bytes")
HEAL_SECONDS = 150.0


@contextmanager
def faulty_storage(directory: Path, ways: tuple[str, ...]) -> Iterator[tuple[FaultyFront, dict[str, Any]]]:
    """A storage that fails for each task in the way that its id begins with, and the settings to use it."""
    directory.mkdir()
    with S3Server(directory) as server, FaultyFront(server.port).running() as front:
        server.client().create_bucket(Bucket=BUCKET)

        def fault(call: Call) -> Answer | None:
            way = next((way for way in ways if f"/{way}" in call.path), None)
            return WAYS[way](front, call) if way and call.method in ("PUT", "POST") else None

        front.fault = fault
        environment = {**server.environment, "AWS_ENDPOINT_URL_S3": front.endpoint}
        yield front, {**environment, "SANDBOX_ARTIFACTS_URL": f"s3://{BUCKET}/some/where"}


def leaving_an_artifact(task: str, *, exit_code: int = 0) -> Json:
    rules = {"collect_timeout": "3s"}
    manifest = ticking_task(COUNT, 0.5, exit_code=exit_code, artifact=True, lifecycle=rules)
    manifest["metadata"]["id"] = task
    return manifest


def stored(it: Installation, task: str) -> bool:
    return [one["path"] for one in it.api.get(f"/tasks/{task}/artifacts")["artifacts"]] == [ARTIFACT]


@pytest.mark.parametrize(
    ("ways", "restarted"),
    [
        pytest.param(QUICK, True, id="restarted"),
        pytest.param(tuple(WAYS), False, marks=pytest.mark.faults_long, id="by itself"),
    ],
)
def test_artifacts_that_could_not_be_stored_stay_on_the_worker_which_stores_them_when_the_storage_is_back(
    install: Install, tmp_path: Path, *, ways: tuple[str, ...], restarted: bool
) -> None:
    with (
        faulty_storage(tmp_path / "s3", ways) as (front, settings),
        install(workers=("w1",), **PATIENT, **settings) as it,
    ):
        good = [it.api.submit(leaving_an_artifact(way)) for way in ways]
        bad = it.api.submit(leaving_an_artifact(f"{ways[0]}-and-fails", exit_code=3))
        for found in it.api.ended(*good):
            outcome = found["outcome"]
            assert (found["state"], outcome["reason"], outcome["fault"]) == ("failed", "artifact_error", "platform")
            assert "w1" in outcome["hint"]
        [failed] = it.api.ended(bad)
        assert (failed["outcome"]["reason"], failed["exit_code"]) == ("exit_nonzero", 3), failed["outcome"]
        for task in (*good, bad):
            assert not stored(it, task)
            assert (it.hosts["w1"].work_dir / f"{task}.1" / "disk" / "workspace" / ARTIFACT).exists()
        front.fault = None
        if restarted:
            it.worker("w1").stop()
            it.worker("w1").start()
        for task in (*good, bad):
            eventually(f"{task} is stored", lambda task=task: stored(it, task), HEAL_SECONDS)
            got = it.api.request("GET", f"/tasks/{task}/artifacts/{ARTIFACT}")
            assert got.text == "".join(f"{number}\n" for number in range(1, COUNT + 1))
