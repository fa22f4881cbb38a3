"""Can this image run the agent? Tried once for each image, in a sandbox of its own, before the task's is made."""

from __future__ import annotations

from workers.attempt import Attempt, StepFailed
from workers.helper import run_helper

SHOWN_CHARACTERS = 500


def check_agent(attempt: Attempt) -> None:
    """Raises `StepFailed` with the agent's own judgement, `HelperStopped`, and what the backend raises."""
    agent, image, equipment = attempt.agent, attempt.image, attempt.equipment
    command = agent.probe()
    if command is None or image is None or (agent.name, image.id) in equipment.probed:
        return
    done = run_helper(
        equipment.backend,
        attempt.probe_spec(),
        command,
        {"HOME": "/tmp"},  # noqa: S108 - inside the sandbox, a tmpfs
        directory="/",
        interrupted=attempt.interrupted,
        deadline=attempt.phase_deadline,
    )
    said = f"{done.stdout}{done.stderr}".strip()[-SHOWN_CHARACTERS:]
    outcome = agent.judge_probe(done.exit_code, said, attempt.image_name, attempt.manifest.vm.profile)
    if outcome is not None:
        raise StepFailed(outcome)
    equipment.probed.add((agent.name, image.id))
