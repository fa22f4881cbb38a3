"""No sandbox is started, ours or a task's, that the engine did not make as asked for."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, cast

import pytest

from workers import runner
from workers.agents.run import RunAgent
from workers.attempt import Attempt, StepFailed
from workers.helper import run_helper
from workers.sandbox.port import Image, Inspection, SandboxBackend, SandboxError, SandboxSpec

FAULT = "CapAdd is ['SYS_ADMIN']"


class Altering:
    """An engine with a plugin that gives more than was asked for."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pull(self, image: str, **_: object) -> Image:
        return Image(image, "sha256:0", "sha256:0")

    def create(self, spec: object) -> str:
        assert spec is not None
        self.calls.append("create")
        return "sandbox"

    def inspect(self, sandbox: str, spec: object = None) -> Inspection:
        assert sandbox == "sandbox"
        return Inspection(False, False, None, False, None, mismatches=(FAULT,) if spec else ())

    def destroy(self, sandbox: str) -> None:
        self.calls.append(f"destroy {sandbox}")


def test_a_helper_that_is_not_as_asked_for_is_never_started() -> None:
    engine = Altering()
    with pytest.raises(SandboxError, match="CapAdd"):
        run_helper(
            cast(SandboxBackend, engine),
            cast(SandboxSpec, object()),
            ["true"],
            {},
            directory="/",
            interrupted=lambda: False,
            deadline=float("inf"),
        )
    assert engine.calls == ["create", "destroy sandbox"]


def test_a_task_s_sandbox_that_is_not_as_asked_for_is_never_started() -> None:
    """Its `/bin/sh` may be the submitter's own program, which runs before any gate."""
    engine = Altering()
    attempt: Any = SimpleNamespace(
        equipment=SimpleNamespace(backend=engine),
        manifest=SimpleNamespace(lifecycle=SimpleNamespace(provision_timeout_seconds=60)),
        within=lambda _: None,
        check=lambda: None,
        interrupted=lambda: False,
        say=lambda _: None,
        spec=object,
        image_name="image",
        agent=RunAgent(),
        phase_deadline=float("inf"),
        undo=ExitStack(),
    )
    with pytest.raises(StepFailed, match="CapAdd"):
        runner.create_sandbox(cast(Attempt, attempt))
    assert engine.calls == ["create"]
