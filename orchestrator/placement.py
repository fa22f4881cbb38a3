"""Which pending task goes to which worker, or why it waits (design §3). Pure."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

from orchestrator.manifest import Manifest
from orchestrator.models import Overcommit, Resources

GIB = 1 << 30
NOTHING = Resources(0, 0, 0)
_ROUNDING = 1e-6
"""Cpus that a sum of fractions may be off: ten tasks of 0.7 cpus fit where seven are free."""
NAMED = 3
"""How many workers the reason of a wait names."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a task asks of a worker. Tasks of equal demand fit the same workers and wait for the same reason."""

    requested: Resources
    profile: str
    network_mode: str
    agent: str

    @property
    def key(self) -> str:
        """A short text that only equal demands share; the texts are spread evenly."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What placement needs to know of a pending task."""

    task_id: str
    priority: int
    created_at: datetime
    demand: Demand

    @property
    def urgency(self) -> tuple[int, datetime, str]:
        """Sorts the most urgent task first: by priority, then by age."""
        return (-self.priority, self.created_at, self.task_id)


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

    def holds(self, demand: Demand) -> bool:
        asked, largest = demand.requested, self.largest
        return (
            asked.cpus <= largest.cpus
            and asked.memory_bytes <= largest.memory_bytes
            and asked.disk_bytes <= largest.disk_bytes
            and demand.profile in self.profiles
            and demand.network_mode in self.network_modes
            and demand.agent in self.agents
        )


@dataclass(frozen=True, slots=True)
class Assignment:
    task_id: str
    worker: str
    held: Resources


@dataclass(frozen=True, slots=True)
class Placement:
    """Who goes where; for each line of tasks that did not end, why its next task waits."""

    assignments: list[Assignment] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)


def place(lines: Mapping[str, Iterable[Wanted]], hosts: Sequence[Host], *, registered: int | None = None) -> Placement:
    """Assign tasks by priority, then age; a task that does not fit now lets smaller ones pass.

    A line holds tasks of one demand, most urgent first; it is read no further than tasks are assigned. `hosts` are
    the workers that have room, and the first `NAMED` by name of all `registered` ones (None: there are no others).
    """
    fleet = _Fleet(hosts)
    result = Placement()
    stuck: dict[str, Demand] = {}
    due = [found for key, line in lines.items() for found in _next(key, iter(line))]
    heapq.heapify(due)
    while due:
        _, key, task, line = heapq.heappop(due)
        assignment = fleet.assign(task)
        if assignment is None:  # room only shrinks in a round, so the rest of the line waits too
            stuck[key] = task.demand
            continue
        result.assignments.append(assignment)
        for found in _next(key, line):
            heapq.heappush(due, found)
    named = fleet.first(NAMED)
    count = len(hosts) if registered is None else registered
    result.waiting.update({key: why_waiting(demand, named, count) for key, demand in stuck.items()})
    return result


_Due = tuple[tuple[int, datetime, str], str, Wanted, Iterator[Wanted]]
"""Sorted by urgency, which ends in the task's id: no two are equal in it."""


def _next(key: str, line: Iterator[Wanted]) -> list[_Due]:
    task = next(line, None)
    return [] if task is None else [(task.urgency, key, task, line)]


class _Fleet:
    """The workers during one round: each assignment takes room, and nothing gives it back."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = {host.name: host for host in hosts}
        self._rooms = {host.name: host.room for host in hosts if host.has_room}
        self._loads = {name: _load(self._hosts[name]) for name in self._rooms}
        self._choices: dict[Demand, list[tuple[float, str]]] = {}

    def first(self, count: int) -> list[Host]:
        return [self._hosts[name] for name in heapq.nsmallest(count, self._hosts)]

    def assign(self, task: Wanted) -> Assignment | None:
        """Give the task to the least loaded worker it fits on, the first by name of equal ones."""
        name = self._least_loaded(task.demand)
        if name is None:
            return None
        host = self._hosts[name]
        held = host.effective(task.demand.requested)
        host = replace(host, used_slots=host.used_slots + 1, used=host.used + held)
        self._hosts[name] = host
        if host.has_room:
            self._rooms[name], self._loads[name] = host.room, _load(host)
        else:
            del self._rooms[name], self._loads[name]
        return Assignment(task.task_id, name, held)

    def _least_loaded(self, demand: Demand) -> str | None:
        choice = self._choices.get(demand)
        if choice is None:
            choice = [(self._loads[name], name) for name, room in self._rooms.items() if room.holds(demand)]
            heapq.heapify(choice)
            self._choices[demand] = choice
        while choice:
            load, name = choice[0]
            room = self._rooms.get(name)
            if room is None or not room.holds(demand):
                heapq.heappop(choice)
            elif self._loads[name] != load:  # it has grown since it was noted here
                heapq.heapreplace(choice, (self._loads[name], name))
            else:
                return name
        return None


def demand_of(manifest: Manifest) -> Demand:
    vm = manifest.vm
    requested = Resources(float(vm.cpus), vm.memory_bytes, vm.disk_bytes)
    return Demand(requested, vm.profile, vm.network_mode, manifest.agent)


def why_never(demand: Demand, host: Host) -> str | None:
    """Return why `host` could not hold the task even when idle, or None when it could."""
    if demand.agent not in host.agents:
        return f"it runs no {demand.agent!r} tasks"
    if demand.profile not in host.profiles:
        return f"it does not offer the profile {demand.profile!r}"
    if demand.network_mode not in host.network_modes:
        return f"it cannot enforce network_mode {demand.network_mode!r}"
    return _too_large(demand.requested, host.capacity)


def _too_large(asked: Resources, capacity: Resources) -> str | None:
    if asked.cpus > capacity.cpus + _ROUNDING:
        return f"{asked.cpus:g} cpus are asked for and it has {capacity.cpus:g}"
    if asked.memory_bytes > capacity.memory_bytes:
        return f"{_gib(asked.memory_bytes)} of memory are asked for and it has {_gib(capacity.memory_bytes)}"
    if asked.disk_bytes > capacity.disk_bytes:
        return f"{_gib(asked.disk_bytes)} of disk are asked for and it has {_gib(capacity.disk_bytes)}"
    return None


def why_not_now(demand: Demand, host: Host) -> str | None:
    """Return what `host` lacks for the task at present, or None when it fits.

    The text says what is asked for, not what happens to be free: it stays true, and unwritten, while others come
    and go.
    """
    never = why_never(demand, host)
    if never:
        return never
    if host.used_slots >= host.slots:
        return f"all {host.slots} slots are taken"
    asked, capacity = host.effective(demand.requested), host.capacity
    total = host.used + asked
    if total.cpus > capacity.cpus + _ROUNDING:
        return f"less than {asked.cpus:g} of its {capacity.cpus:g} cpus are free"
    if total.memory_bytes > capacity.memory_bytes:
        return f"less than {_gib(asked.memory_bytes)} of its {_gib(capacity.memory_bytes)} of memory are free"
    if total.disk_bytes > capacity.disk_bytes:
        return f"less than {_gib(asked.disk_bytes)} of its {_gib(capacity.disk_bytes)} of disk are free"
    return None


def why_waiting(demand: Demand, named: Sequence[Host], registered: int) -> str:
    """Return the reason a task stays pending, for its `state_message`; `named` are the first of all registered."""
    if not named:
        return "waits: no worker is registered; start one with `sandbox worker` or `sandbox up`"
    reasons = [f"{host.name}: {_reason(demand, host)}" for host in named]
    others = registered - len(named)
    more = f"; and {others} more worker{'s' if others > 1 else ''}" if others > 0 else ""
    return "waits: " + "; ".join(reasons) + more


def why_unplaceable(demand: Demand, hosts: Iterable[Host]) -> str | None:
    """Return why no registered worker could ever hold the task (507), or None: one could, or none is registered.

    Reads `hosts` no further than to the first that could.
    """
    reasons: list[str] = []
    for host in hosts:
        reason = why_never(demand, host)
        if reason is None:
            return None
        if len(reasons) < NAMED:
            reasons.append(f"{host.name}: {reason}")
    return "; ".join(reasons) or None


def _reason(demand: Demand, host: Host) -> str:
    if not host.ready:
        return host.trouble or "it is not running"
    return why_not_now(demand, host) or "it is free"


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
