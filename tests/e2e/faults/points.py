"""The fault points of the product, in the order of the recipe (`orchestrator.fault_points`)."""

from __future__ import annotations

GATE_ANNOUNCED = "gate_announced"
"""The state says `running`, and the gate is still closed."""
BEFORE_RUNNING = (
    "claimed",
    "workspace_made",
    "image_ready",
    "sandbox_created",
    "output_held",
    "start_due",
    "sandbox_started",
    "sandbox_verified",
    GATE_ANNOUNCED,
)
"""The gate is closed at all of them: nothing of the task has run."""
ENDING = ("ended", "sandbox_stopped", "output_drained", "artifacts_stored", "before_conclude", "concluded")
"""The command has ended, or is being stopped."""


def kill_at(point: str) -> dict[str, str]:
    """The setting of a worker that dies there, once in its host's life."""
    return {"SANDBOX_TEST_FAULTS": f"kill@{point}"}
