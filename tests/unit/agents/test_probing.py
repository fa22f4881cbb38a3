"""Whether an image can run the agent, by the end of its probe."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from orchestrator.outcomes import Fault, Reason
from tests.unit.agents.recorded import AGENT

VERSION = "2.1.330 (Claude Code)\n"


def probe(directory: Path, program: str | None) -> tuple[int, str]:
    """Run the real probe where `program`, a shell script, is all there is."""
    if program is not None:
        (directory / "claude").write_text(program)
        (directory / "claude").chmod(0o755)
    command = AGENT.probe()
    assert command is not None
    done = subprocess.run(
        command, env={**os.environ, "PATH": str(directory)}, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("output", [VERSION, f"warning: something\n{VERSION}", "3.0.0-beta.1 (Claude Code)"])
def test_an_image_that_answers_with_a_version_will_do(output: str) -> None:
    assert AGENT.judge_probe(0, output, "some/image:1", "agentic-dev") is None


def test_an_image_without_the_agent_is_named_with_what_to_do(tmp_path: Path) -> None:
    found = AGENT.judge_probe(*probe(tmp_path, None), "some/image:1", "basic")
    assert found is not None
    assert (found.reason, found.fault) == (Reason.AGENT_NOT_FOUND, Fault.USER)
    assert found.message == 'image "some/image:1" (profile "basic") has no "claude" on its PATH (exit code 127)'
    assert "agentic-dev" in (found.hint or "")


def test_a_program_that_answers_is_found(tmp_path: Path) -> None:
    assert AGENT.judge_probe(*probe(tmp_path, "#!/bin/sh\necho '2.1.330 (Claude Code)'\n"), "i", "p") is None


@pytest.mark.parametrize(
    "program",
    [
        "#!/nonexistent/interpreter\n",
        "#!/bin/sh\necho 'claude native binary not installed' >&2\nexit 1\n",
        "#!/bin/sh\necho 'another program'\n",
        "#!/bin/sh\nexit 0\n",
    ],
)
def test_a_program_that_is_not_the_agent_or_cannot_run_is_told_apart(tmp_path: Path, program: str) -> None:
    exit_code, output = probe(tmp_path, program)
    found = AGENT.judge_probe(exit_code, output, "some/image:1", "mine")
    assert found is not None
    assert found.reason is Reason.AGENT_NOT_RUNNABLE
    assert f"exit code {exit_code}" in found.message
    assert 'image "some/image:1" (profile "mine")' in found.message
    assert output.strip() in found.message
