"""Which pending task goes to which worker, or why it waits (design §3). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from orchestrator.models import Overcommit, Resources

GIB = 1 << 30
NOTHING = Resources(0, 0, 0)
_ROUNDING = 1e-6
"""Cpus that a sum of fractions may be off: ten tasks of 0.7 cpus fit where seven are free."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What placement needs to know of a pending task."""

    task_id: str
    priority: int
    created_at: datetime
    requested: Resources
    profile: str
    network_mode: str
    agent: str


@dataclass(frozen=True, slots=True)
class Host:
    """What placement needs to know of a worker. `ready` is false when it is stopped, lost or in trouble."""

    name: str
    slots: int
    size: Resources
    overcommit: Overcommit
    profiles: frozenset[str]
    network_modes: frozenset[str]
    agents: frozenset[str]
    ready: bool = True
    trouble: str | None = None
    used_slots: int = 0
    used: Resources = NOTHING

    @property
    def capacity(self) -> Resources:
        return Resources(
            self.size.cpus * self.overcommit.cpus,
            int(self.size.memory_bytes * self.overcommit.memory),
            int(self.size.disk_bytes * self.overcommit.disk),
        )

    @property
    def has_room(self) -> bool:
        """Tell whether it takes tasks and has a free slot."""
        return self.ready and self.used_slots < self.slots

    @property
    def room(self) -> Room:
        """What a task may ask for to fit now, apart from the slot."""
        size, used, capacity = self.size, self.used, self.capacity
        largest = Resources(
            _largest(capacity.cpus, used.cpus, size.cpus) + _ROUNDING,
            int(_largest(capacity.memory_bytes, used.memory_bytes, size.memory_bytes)),
            int(_largest(capacity.disk_bytes, used.disk_bytes, size.disk_bytes)),
        )
        return Room(largest, self.profiles, self.network_modes, self.agents)

    def effective(self, asked: Resources) -> Resources:
        """Clamp a request to the host's real size: the engine refuses more cpus than there are."""
        return Resources(
            min(asked.cpus, self.size.cpus),
            min(asked.memory_bytes, self.size.memory_bytes),
            min(asked.disk_bytes, self.size.disk_bytes),
        )


@dataclass(frozen=True, slots=True)
class Room:
    """The largest request that fits on a worker now, and what else a task must be content with."""

    largest: Resources
    profiles: frozenset[str]
    network_modes: frozenset[str]
    agents: frozenset[str]


@dataclass(frozen=True, slots=True)
class Assignment:
    task_id: str
    worker: str
    held: Resources


@dataclass(frozen=True, slots=True)
class Placement:
    assignments: list[Assignment] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)


def place(tasks: Iterable[Wanted], hosts: Sequence[Host]) -> Placement:
    """Assign tasks by priority, then age; a task that does not fit now lets smaller ones pass."""
    result = Placement()
    fleet = {host.name: host for host in hosts}
    for task in sorted(tasks, key=lambda one: (-one.priority, one.created_at, one.task_id)):
        fitting = [host for host in fleet.values() if host.ready and why_not_now(task, host) is None]
        if not fitting:
            result.waiting[task.task_id] = why_waiting(task, list(fleet.values()))
            continue
        host = min(fitting, key=lambda one: (_load(one), one.name))
        held = host.effective(task.requested)
        fleet[host.name] = replace(host, used_slots=host.used_slots + 1, used=host.used + held)
        result.assignments.append(Assignment(task.task_id, host.name, held))
    return result


def why_never(task: Wanted, host: Host) -> str | None:
    """Return why `host` could not hold `task` even when idle, or None when it could."""
    if task.agent not in host.agents:
        return f"it runs no {task.agent!r} tasks"
    if task.profile not in host.profiles:
        return f"it does not offer the profile {task.profile!r}"
    if task.network_mode not in host.network_modes:
        return f"it cannot enforce network_mode {task.network_mode!r}"
    return _too_large(task.requested, host.capacity)


def _too_large(asked: Resources, capacity: Resources) -> str | None:
    if asked.cpus > capacity.cpus + _ROUNDING:
        return f"{asked.cpus:g} cpus are asked for and it has {capacity.cpus:g}"
    if asked.memory_bytes > capacity.memory_bytes:
        return f"{_gib(asked.memory_bytes)} of memory are asked for and it has {_gib(capacity.memory_bytes)}"
    if asked.disk_bytes > capacity.disk_bytes:
        return f"{_gib(asked.disk_bytes)} of disk are asked for and it has {_gib(capacity.disk_bytes)}"
    return None


def why_not_now(task: Wanted, host: Host) -> str | None:
    """Return what `host` lacks for `task` at present, or None when it fits."""
    never = why_never(task, host)
    if never:
        return never
    if host.used_slots >= host.slots:
        return f"all {host.slots} slots are taken"
    total, capacity = host.used + host.effective(task.requested), host.capacity
    if total.cpus > capacity.cpus + _ROUNDING:
        return f"{capacity.cpus - host.used.cpus:g} of {capacity.cpus:g} cpus are free"
    if total.memory_bytes > capacity.memory_bytes:
        return f"{_gib(capacity.memory_bytes - host.used.memory_bytes)} of memory are free"
    if total.disk_bytes > capacity.disk_bytes:
        return f"{_gib(capacity.disk_bytes - host.used.disk_bytes)} of disk are free"
    return None


def why_waiting(task: Wanted, hosts: Sequence[Host]) -> str:
    """Return the reason a task stays pending, for its `state_message`."""
    if not hosts:
        return "waits: no worker is registered; start one with `sandbox worker` or `sandbox up`"
    reasons = [f"{host.name}: {_reason(task, host)}" for host in sorted(hosts, key=lambda one: one.name)]
    more = f"; and {len(reasons) - 3} more workers" if len(reasons) > 3 else ""
    return "waits: " + "; ".join(reasons[:3]) + more


def why_unplaceable(task: Wanted, hosts: Sequence[Host]) -> str | None:
    """Return why no registered worker could ever hold the task (507), or None: one could, or none is registered."""
    reasons = [(host.name, why_never(task, host)) for host in hosts]
    if not reasons or any(reason is None for _, reason in reasons):
        return None
    return "; ".join(f"{name}: {reason}" for name, reason in reasons[:3])


def _reason(task: Wanted, host: Host) -> str:
    if not host.ready:
        return host.trouble or "it is not running"
    return why_not_now(task, host) or "it is free"


def _largest(capacity: float, used: float, size: float) -> float:
    """A request beyond the host's size counts as that size: where it is free, all up to the capacity fits."""
    free = capacity - used
    return capacity if size <= free else free


def _load(host: Host) -> float:
    capacity = host.capacity
    return max(
        host.used_slots / max(host.slots, 1),
        host.used.cpus / max(capacity.cpus, 1e-9),
        host.used.memory_bytes / max(capacity.memory_bytes, 1),
    )


def _gib(size: int) -> str:
    return f"{size / GIB:.4g}G"
