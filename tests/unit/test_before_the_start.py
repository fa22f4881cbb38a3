"""No sandbox is started, ours or a task's, that the engine did not make as asked for."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.states import State
from workers import adopt, runner
from workers.agents.run import RunAgent
from workers.attempt import Attempt, StepFailed, Stopped
from workers.helper import run_helper
from workers.sandbox.port import Image, Inspection, SandboxBackend, SandboxError, SandboxSpec
from workers.supervisor import Verdict

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


def given_back(verdict: Verdict, state: State, *, gate_open: bool) -> list[str]:
    """Why an attempt that is asked to end so is given back; nothing when it is finished instead."""
    told: list[str] = []

    def asked_to_end(_: Attempt) -> None:
        raise Stopped(verdict)

    attempt: Any = SimpleNamespace(state=state, gate_open=gate_open, give_back=told.append)
    runner._to_its_end(cast(Attempt, attempt), (asked_to_end,))
    return told


@pytest.mark.parametrize("state", [State.STAGING, State.READY, State.RUNNING])
def test_a_worker_that_stops_gives_back_what_has_not_passed_its_gate_whatever_was_announced(state: State) -> None:
    assert given_back(Verdict.STOPPING, state, gate_open=False) == ["the worker was stopped before the task ran"]


def test_what_has_passed_its_gate_is_not_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    finished: list[Verdict] = []
    monkeypatch.setattr(runner, "finish", lambda _attempt, verdict, _outcome: finished.append(verdict))
    assert given_back(Verdict.STOPPING, State.RUNNING, gate_open=True) == []
    assert given_back(Verdict.CANCELLED, State.RUNNING, gate_open=False) == []
    assert finished == [Verdict.STOPPING, Verdict.CANCELLED]


@pytest.mark.parametrize(("stdin_closed", "eof"), [(False, None), (False, "ended"), (True, None), (True, "ended")])
def test_a_sandbox_waits_at_its_gate_as_long_as_it_got_nothing_also_when_it_was_stopped(
    stdin_closed: bool, eof: str | None
) -> None:
    held = {"sandbox": SimpleNamespace(stdin_closed=stdin_closed, eof=eof)}
    equipment: Any = SimpleNamespace(keeper=SimpleNamespace(held=lambda: held))
    row: Any = SimpleNamespace(sandbox="sandbox")
    assert adopt._waits_at_gate(equipment, row) is not stdin_closed
    assert adopt._waits_at_gate(equipment, cast(Any, SimpleNamespace(sandbox="unknown"))) is False
