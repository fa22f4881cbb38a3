"""What is really enforced on an attempt, for `applied` in the API: the truth, not the wish (design §3)."""

from __future__ import annotations

from typing import Any

from workers.attempt import Attempt
from workers.egress.namespace import LOOPBACK
from workers.model_api.address import MODEL_PORT
from workers.task_disk import ImageDisk, WatchedDisk
from workers.way_out import OUTBOUND
from workers.workspace import sandbox_user_id


def applied_limits(attempt: Attempt) -> dict[str, Any]:
    """Return `{limit: {requested, effective, mechanism}}`. A limit nobody enforces has no effective value."""
    asked, effective = attempt.task.requested, attempt.effective
    return {
        "cpus": _limit(asked.cpus, effective.cpus, "cgroup cpu quota"),
        "memory_bytes": _limit(asked.memory_bytes, effective.memory_bytes, _memory(attempt)),
        "disk_bytes": _limit(asked.disk_bytes, effective.disk_bytes, disk_mechanism(attempt)),
        "network": _limit(attempt.manifest.vm.network_mode, *_network(attempt)),
        "pids": _limit(None, attempt.profile.pids, "cgroup pids"),
        "root": _limit(None, "writable" if attempt.profile.writable_root else "read-only", "container configuration"),
        "runtime": _limit(attempt.profile.runtime, attempt.runtime, "the engine's runtime of that name"),
        "user": _limit(None, *_user(attempt)),
        **_model_api(attempt),
    }


def _model_api(attempt: Attempt) -> dict[str, Any]:
    """Only an agent that needs a model is given the way to it, in each network mode."""
    if not attempt.agent.needs_model:
        return {}
    budget = attempt.meter.budget_usd
    limit = f", until {budget:g} USD are spent" if budget is not None else ""
    words = f"{attempt.equipment.entry.mechanism}; it adds the operator's key and passes on model requests only{limit}"
    return {"model_api": _limit(budget, f"http://{LOOPBACK}:{MODEL_PORT}", words)}


def _memory(attempt: Attempt) -> str:
    if attempt.equipment.engine.facts().swap_limited:
        return "cgroup memory, no swap on top"
    return "cgroup memory; swap, if the host has any, is not limited: its kernel does not account it"


def _user(attempt: Attempt) -> tuple[str, str]:
    """Who the command is on the host."""
    inside, outside = sandbox_user_id(), attempt.directory.owner().user_id
    if inside == outside:
        return f"{inside}, on the host too", "no capabilities, no new privileges"
    return f"{inside}, on the host {outside}", "the engine's user namespace (userns-remap); no capabilities"


def disk_mechanism(attempt: Attempt) -> str:
    """What holds the task to its size. Raises `OSError` when that cannot be seen."""
    is_image, mechanism = attempt.disk_gauge.is_image, WatchedDisk.mechanism
    if not is_image:
        return mechanism
    root = f"; the writable root {mechanism}" if attempt.profile.writable_root else ""
    return f"{ImageDisk.mechanism}{root}"


_CLOSED = "empty network namespace (--network none)"
_FILTERED = (
    "a bridge of this worker's own, from which the host's packet filter drops what goes to the host, to private, "
    "link-local and metadata addresses and to other sandboxes; no IPv6"
)


def _network(attempt: Attempt) -> tuple[str, str]:
    vm = attempt.manifest.vm
    if vm.network_mode != OUTBOUND:
        return network_of(vm.network_mode)
    passed_on = f"{_CLOSED}; {attempt.equipment.entry.mechanism} passes on connections to"
    if attempt.profile.learn_egress:
        return "outbound, learning", f"{passed_on} every public host, and records them"
    count = len(vm.allowed_hosts)
    return OUTBOUND, f"{passed_on} the {count} entries of allowed_hosts" if count else f"{passed_on} nothing"


def network_of(mode: str) -> tuple[str, str]:
    """The mode in force and what enforces it. A task whose mode a worker does not enforce never gets this far."""
    return ("full", _FILTERED) if mode == "full" else ("isolated", _CLOSED)


def _limit(requested: Any, effective: Any, mechanism: str) -> dict[str, Any]:
    return {"requested": requested, "effective": effective, "mechanism": mechanism}
