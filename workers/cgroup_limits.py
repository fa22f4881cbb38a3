"""The limits that the kernel itself holds a sandbox to: what the engine answers is only what it was told."""

from __future__ import annotations

import os
from collections.abc import Iterator

from workers.cgroups import ControlGroups, groups_of
from workers.sandbox.port import SandboxSpec

_WITHIN = 0.01


def faults(process_id: int | None, sandbox: str, spec: SandboxSpec) -> Iterator[str]:
    """Name each limit that the kernel does not have as asked for.

    Nothing is named where this process does not see the sandbox's control groups: in a container of its own.
    """
    groups = groups_of(process_id, sandbox)
    memory = _number(groups, "memory", "memory.limit_in_bytes", "memory.max")
    if memory is not None and not spec.memory_bytes - os.sysconf("SC_PAGE_SIZE") < memory <= spec.memory_bytes:
        yield f"the kernel limits memory to {memory} bytes, asked for {spec.memory_bytes}"
    pids = _number(groups, "pids", "pids.max", "pids.max")
    if pids is not None and pids != spec.pids:
        yield f"the kernel limits processes to {pids}, asked for {spec.pids}"
    cpus = _cpus(groups)
    if cpus is not None and abs(cpus - spec.cpus) > _WITHIN * spec.cpus:
        yield f"the kernel limits cpus to {cpus:g}, asked for {spec.cpus:g}"


def _number(groups: ControlGroups, controller: str, first: str, unified: str) -> float | None:
    """A limit; infinite when the kernel has none; None when it cannot be seen."""
    words = _words(groups, controller, first, unified)
    if words is None:
        return None
    return float("inf") if words[0] == "max" else float(words[0])


def _cpus(groups: ControlGroups) -> float | None:
    first = _words(groups, "cpu", "cpu.cfs_quota_us", "cpu.max")
    if first is None:
        return None
    period = first[1] if len(first) == 2 else (_words(groups, "cpu", "cpu.cfs_period_us", "cpu.max") or ["100000"])[0]
    return float("inf") if first[0] in ("max", "-1") else float(first[0]) / float(period)


def _words(groups: ControlGroups, controller: str, first: str, unified: str) -> list[str] | None:
    text = groups.read(controller, first, unified)
    return None if text is None else text.split()
