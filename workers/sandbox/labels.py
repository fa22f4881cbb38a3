"""Labels on all that a worker makes: adoption and clean-up touch only this installation's and this worker's."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.models import Claim

INSTALLATION = "sandbox.installation"
WORKER = "sandbox.worker"
TASK = "sandbox.task"
ATTEMPT = "sandbox.attempt"
FENCE = "sandbox.fence"
ROLE = "sandbox.role"
SERVES = "sandbox.serves"
"""On a sidecar: the id of the sandbox whose network it has joined."""

ROLE_TASK = "task"
ROLE_GIT = "git"
ROLE_PROBE = "probe"
ROLE_EGRESS = "egress"
"""A sidecar: it holds the listener of another sandbox's way out (docs/network.md)."""
ROLE_NETWORK = "network"
"""The worker's network for `network_mode: full`; of no task."""


def labels(installation: str, worker: str, claim: Claim, role: str) -> dict[str, str]:
    return {
        INSTALLATION: installation,
        WORKER: worker,
        TASK: claim.task_id,
        ATTEMPT: str(claim.attempt),
        FENCE: str(claim.fence),
        ROLE: role,
    }


def claim_of(found: Mapping[str, str]) -> Claim | None:
    """Read a claim back from labels; None when they are not ours."""
    try:
        return Claim(found[TASK], int(found[ATTEMPT]), int(found[FENCE]))
    except (KeyError, ValueError):
        return None
