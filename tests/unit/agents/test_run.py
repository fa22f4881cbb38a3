"""What is run for a command or script, and what its end means."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.manifest import Manifest
from orchestrator.models import Input
from orchestrator.outcomes import Fault, Outcome, Reason
from workers.agents import AGENTS, agent_of
from workers.agents.port import Launch, Places
from workers.agents.run import RunAgent

AGENT = RunAgent()
PLACES = Places("/opt/sandbox-inbox/script", "/opt/private", "/opt/sandbox-inbox/input")


def manifest(**run: Any) -> Manifest:
    return Manifest.from_definition(
        {"version": "1", "kind": "Task", "metadata": {"name": "n"}, "run": run, "vm": {"memory": "2G"}}
    )


def launch(wanted: Manifest) -> Launch:
    return AGENT.launch(wanted, PLACES, {}, "7c7f2b5e-4b3a-4a55-9e0c-0d6b3f0f4f10", None)


def outcome(exit_code: int, *, oom_killed: bool) -> Outcome:
    return AGENT.outcome(manifest(command=["true"]), exit_code, oom_killed=oom_killed, seen=None)


def test_the_agent_of_a_run_manifest_is_run() -> None:
    assert agent_of(manifest(command=["true"])) is AGENTS["run"]


def test_another_agent_s_manifest_cannot_be_run_as_a_command() -> None:
    claude = Manifest.from_definition(
        {"version": "1", "kind": "Task", "metadata": {"name": "n"}, "claude": {"prompt": "p"}}
    )
    with pytest.raises(ValueError, match="is no `run` task"):
        launch(claude)
    assert (AGENT.image(claude), AGENT.script(claude)) == (None, None)


def test_a_command_runs_as_it_was_written_without_a_shell() -> None:
    wanted = manifest(command=["printf", "%s", "$HOME; rm -rf /"], env={"A": "b"})
    assert launch(wanted) == Launch(("printf", "%s", "$HOME; rm -rf /"), {"A": "b"})
    assert AGENT.script(wanted) is None


def test_a_script_runs_from_its_file_by_a_strict_bash() -> None:
    wanted = manifest(script="echo one\necho two\n", env={"A": "b"})
    assert AGENT.script(wanted) == "echo one\necho two\n"
    assert launch(wanted) == Launch(["bash", "-euo", "pipefail", "/opt/sandbox-inbox/script"], {"A": "b"})


def test_the_image_is_the_manifest_s_or_the_profile_s() -> None:
    assert AGENT.image(manifest(command=["true"])) is None
    assert AGENT.image(manifest(command=["true"], image="my/image:1")) == "my/image:1"


def test_a_command_needs_no_model_and_runs_in_every_image() -> None:
    assert not AGENT.needs_model
    assert AGENT.probe() is None
    assert AGENT.judge_probe(1, "", "i", "p") is None


def test_the_output_of_a_command_is_only_shown() -> None:
    wanted = manifest(command=["true"])
    assert AGENT.reader(wanted, None) is None
    assert AGENT.answer([b'{"type":"result","is_error":false,"result":"x"}']) is None
    assert not AGENT.session_paths


def test_a_command_is_told_nothing() -> None:
    with pytest.raises(ValueError, match="input 3 cannot be told to a command"):
        AGENT.said(Input(3, datetime.now(UTC), text="hello"))


@pytest.mark.parametrize(
    ("exit_code", "oom_killed", "reason", "fault", "signal"),
    [
        (0, False, Reason.EXIT_ZERO, None, None),
        (0, True, Reason.EXIT_ZERO, None, None),
        (1, False, Reason.EXIT_NONZERO, Fault.USER, None),
        (125, False, Reason.EXIT_NONZERO, Fault.USER, None),
        (137, False, Reason.EXIT_NONZERO, Fault.USER, 9),
        (137, True, Reason.OOM_KILLED, Fault.USER, 9),
        (1, True, Reason.OOM_KILLED, Fault.USER, None),
        (143, False, Reason.EXIT_NONZERO, Fault.USER, 15),
        (255, False, Reason.EXIT_NONZERO, Fault.USER, None),
    ],
)
def test_an_end_by_itself_is_classified(
    exit_code: int, *, oom_killed: bool, reason: Reason, fault: Fault | None, signal: int | None
) -> None:
    found = outcome(exit_code, oom_killed=oom_killed)
    assert (found.reason, found.fault, found.signal) == (reason, fault, signal)
    assert found.exit_code == exit_code
    assert found.hint is not None or reason is Reason.EXIT_ZERO


def test_a_task_that_was_killed_for_memory_is_told_its_limit() -> None:
    found = outcome(137, oom_killed=True)
    assert "its memory limit of 2G" in found.message
    assert "raise vm.memory" in (found.hint or "")
