"""What is run for a manifest, and what its end means."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.manifest import Manifest
from orchestrator.outcomes import Fault, Reason
from workers.agents import AGENTS, agent_of
from workers.agents.port import Launch
from workers.agents.run import RunAgent

AGENT = RunAgent()


def manifest(**run: Any) -> Manifest:
    return Manifest.from_definition(
        {"version": "1", "kind": "Task", "metadata": {"name": "n"}, "run": run, "vm": {"memory": "2G"}}
    )


def test_the_agent_of_a_run_manifest_is_run() -> None:
    assert agent_of(manifest(command=["true"])) is AGENTS["run"]


def test_an_agent_that_is_not_here_is_none_of_ours() -> None:
    claude = Manifest.from_definition(
        {"version": "1", "kind": "Task", "metadata": {"name": "n"}, "claude": {"prompt": "p"}}
    )
    with pytest.raises(KeyError):
        agent_of(claude)
    with pytest.raises(ValueError, match="is no `run` task"):
        AGENT.launch(claude, None)
    assert (AGENT.image(claude), AGENT.script(claude)) == (None, None)


def test_a_command_runs_as_it_was_written_without_a_shell() -> None:
    wanted = manifest(command=["printf", "%s", "$HOME; rm -rf /"], env={"A": "b"})
    assert AGENT.launch(wanted, None) == Launch(("printf", "%s", "$HOME; rm -rf /"), {"A": "b"})
    assert AGENT.script(wanted) is None


def test_a_script_runs_from_its_file_by_a_strict_bash() -> None:
    wanted = manifest(script="echo one\necho two\n", env={"A": "b"})
    assert AGENT.script(wanted) == "echo one\necho two\n"
    launch = AGENT.launch(wanted, "/opt/sandbox-inbox/script")
    assert launch == Launch(["bash", "-euo", "pipefail", "/opt/sandbox-inbox/script"], {"A": "b"})


def test_the_image_is_the_manifest_s_or_the_profile_s() -> None:
    assert AGENT.image(manifest(command=["true"])) is None
    assert AGENT.image(manifest(command=["true"], image="my/image:1")) == "my/image:1"


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
    outcome = AGENT.outcome(manifest(command=["true"]), exit_code, oom_killed=oom_killed)
    assert (outcome.reason, outcome.fault, outcome.signal) == (reason, fault, signal)
    assert outcome.exit_code == exit_code
    assert outcome.hint is not None or reason is Reason.EXIT_ZERO


def test_a_task_that_was_killed_for_memory_is_told_its_limit() -> None:
    outcome = AGENT.outcome(manifest(command=["true"]), 137, oom_killed=True)
    assert "its memory limit of 2G" in outcome.message
    assert "raise vm.memory" in (outcome.hint or "")
