"""What is really enforced on an attempt, for `applied` in the API: the truth, not the wish (design §3)."""

from __future__ import annotations

from typing import Any

from workers.attempt import Attempt


def applied_limits(attempt: Attempt) -> dict[str, Any]:
    """Return `{limit: {requested, effective, mechanism}}`. A limit nobody enforces has no effective value."""
    asked, effective = attempt.task.requested, attempt.effective
    return {
        "cpus": _limit(asked.cpus, effective.cpus, "cgroup cpu quota"),
        "memory_bytes": _limit(asked.memory_bytes, effective.memory_bytes, "cgroup memory, no swap on top"),
        "disk_bytes": _limit(asked.disk_bytes, None, "none: counted by placement, not enforced in this version"),
        "network": _limit(attempt.manifest.vm.network_mode, "isolated", "empty network namespace (--network none)"),
        "pids": _limit(None, attempt.profile.pids, "cgroup pids"),
        "root": _limit(None, "writable" if attempt.profile.writable_root else "read-only", "container configuration"),
        "runtime": _limit(None, attempt.profile.runtime or "the engine's default", "container runtime"),
    }


def _limit(requested: Any, effective: Any, mechanism: str) -> dict[str, Any]:
    return {"requested": requested, "effective": effective, "mechanism": mechanism}
