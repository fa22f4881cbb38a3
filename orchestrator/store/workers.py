"""The fleet in the store: registration, heartbeat, loss."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from orchestrator.models import Overcommit, Resources, Worker, WorkerState
from orchestrator.placement import NAMED, Host
from orchestrator.store import rows
from orchestrator.store.queue import held_sums
from orchestrator.store.tables import workers


def register(tx: sa.Connection, worker: Worker) -> None:
    """A worker starts (again) under its name: what it can do is what it says now. A drain goes on."""
    values: dict[str, Any] = {
        "state": WorkerState.ACTIVE.value,
        "slots": worker.slots,
        "cpus": worker.host.cpus,
        "memory_bytes": worker.host.memory_bytes,
        "disk_bytes": worker.host.disk_bytes,
        "overcommit": asdict(worker.overcommit),
        "profiles": list(worker.profiles),
        "network_modes": list(worker.network_modes),
        "agents": list(worker.agents),
        "trouble": worker.trouble,
        "heartbeat_at": worker.heartbeat_at,
        "registered_at": worker.registered_at,
        "adopt_until": None,
        "host_id": worker.host_id,
        "version": worker.version,
    }
    known = tx.execute(
        workers.update().where(workers.c.name == worker.name).values(heartbeat=workers.c.heartbeat + 1, **values)
    )
    if known.rowcount == 0:
        tx.execute(workers.insert().values(name=worker.name, heartbeat=1, **values))


def beat(tx: sa.Connection, before: Worker, at: datetime, trouble: str | None) -> bool:
    """Raise the heartbeat counter; true when what the worker reports changed (placement should look again).

    A lost worker is active again. A stopped one is not: its last heartbeat may come after its goodbye.
    """
    state = WorkerState.ACTIVE if before.state is WorkerState.LOST else before.state
    tx.execute(
        workers.update()
        .where(workers.c.name == before.name)
        .values(heartbeat=workers.c.heartbeat + 1, heartbeat_at=at, trouble=trouble, state=state.value)
    )
    return (before.trouble, before.state) != (trouble, state)


def beat_quietly(tx: sa.Connection, name: str, at: datetime, trouble: str | None, host_id: str | None) -> Worker | None:
    """Raise the counter of a worker of which nothing has changed; None when something has: see `beat`."""
    same = workers.c.trouble.is_(None) if trouble is None else workers.c.trouble == trouble
    row = tx.execute(
        workers.update()
        .where(workers.c.name == name, workers.c.state == WorkerState.ACTIVE.value, same)
        .where(sa.or_(workers.c.host_id.is_(None), workers.c.host_id == host_id))
        .values(heartbeat=workers.c.heartbeat + 1, heartbeat_at=at)
        .returning(*workers.c)
    ).mappings()
    found = row.first()
    return rows.worker(found) if found else None


class UnknownWorker(Exception):
    """No worker of this name is registered: there never was one, or an operator removed it."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"no worker named {name} is registered; `sandbox workers list` shows those there are, and "
            f"`sandbox worker --name {name}`, started again, registers it"
        )
        self.name = name


def set_state(tx: sa.Connection, name: str, state: WorkerState) -> None:
    tx.execute(workers.update().where(workers.c.name == name).values(state=state.value))


def set_lost(tx: sa.Connection, name: str, trouble: str) -> None:
    values = {"state": WorkerState.LOST.value, "trouble": trouble}
    tx.execute(workers.update().where(workers.c.name == name).values(values))


def set_stopped(tx: sa.Connection, name: str, at: datetime, adopt_until: datetime) -> None:
    """The goodbye; its counter moves, so that absence is counted from here."""
    tx.execute(
        workers.update()
        .where(workers.c.name == name)
        .values(
            state=WorkerState.STOPPED.value,
            heartbeat=workers.c.heartbeat + 1,
            heartbeat_at=at,
            adopt_until=adopt_until,
            trouble=None,
        )
    )


def set_drain(tx: sa.Connection, name: str, *, draining: bool, until: datetime | None) -> None:
    tx.execute(workers.update().where(workers.c.name == name).values(draining=draining, drain_until=until))


def remove(tx: sa.Connection, name: str) -> None:
    tx.execute(workers.delete().where(workers.c.name == name))


def set_trouble(tx: sa.Connection, name: str, trouble: str) -> None:
    """Say what keeps a worker from running tasks, before its next heartbeat does."""
    tx.execute(workers.update().where(workers.c.name == name).values(trouble=trouble))


def get(tx: sa.Connection, name: str) -> Worker | None:
    row = tx.execute(sa.select(workers).where(workers.c.name == name)).mappings().first()
    return rows.worker(row) if row else None


def all_of(tx: sa.Connection) -> list[Worker]:
    return [rows.worker(row) for row in tx.execute(sa.select(workers).order_by(workers.c.name)).mappings()]


def hosts(tx: sa.Connection) -> tuple[list[Host], int]:
    """The part of the fleet that a round of placement looks at, with what is held, and how many are registered.

    The part: all workers that may have room, and the first few by name, which the reasons of those that wait name.
    """
    held = held_sums()
    slots = sa.func.coalesce(held.c.slots, 0)
    may_have_room = sa.and_(
        workers.c.state == WorkerState.ACTIVE.value,
        workers.c.trouble.is_(None),
        ~workers.c.draining,
        slots < workers.c.slots,
    )
    named = sa.select(workers.c.name).order_by(workers.c.name).limit(NAMED)
    query = (
        sa.select(*_AS_HOST, slots, held.c.cpus, held.c.memory_bytes, held.c.disk_bytes)
        .outerjoin_from(workers, held, held.c.worker == workers.c.name)
        .where(sa.or_(may_have_room, workers.c.name.in_(named)))
    )
    found = [_busy(_idle_host(tuple(row[: len(_AS_HOST)])), *row[len(_AS_HOST) :]) for row in tx.execute(query)]
    return found, int(tx.scalar(sa.select(sa.func.count()).select_from(workers)) or 0)


def registered(tx: sa.Connection) -> Iterator[Host]:
    """Every registered worker by name, as if it were idle; read no further than the caller does."""
    last, step = "", 16
    while True:
        query = sa.select(*_AS_HOST).where(workers.c.name > last).order_by(workers.c.name).limit(step)
        found = tx.execute(query).all()
        yield from (_idle_host(tuple(row)) for row in found)
        if len(found) < step:
            return
        last, step = found[-1].name, step * 4


def as_host(worker: Worker) -> Host:
    trouble = _why_not_ready(worker.name, worker.state, worker.trouble, draining=worker.draining)
    return Host(
        name=worker.name,
        slots=worker.slots,
        size=worker.host,
        overcommit=worker.overcommit,
        profiles=frozenset(worker.profiles),
        network_modes=frozenset(worker.network_modes),
        agents=frozenset(worker.agents),
        ready=trouble is None,
        trouble=trouble,
    )


_AS_HOST = (
    *(
        workers.c[name]
        for name in ("name", "state", "trouble", "draining", "slots", "cpus", "memory_bytes", "disk_bytes")
    ),
    *(sa.cast(workers.c[name], sa.Text) for name in ("overcommit", "profiles", "network_modes", "agents")),
)


@lru_cache(maxsize=4096)
def _idle_host(row: tuple[Any, ...]) -> Host:
    """A worker as placement sees it, without what it holds, from `_AS_HOST`.

    Of a thousand workers hardly one changes between two rounds: what was decoded once is known.
    """
    name, state, trouble, draining, slots, cpus, memory_bytes, disk_bytes = row[:8]
    overcommit, profiles, network_modes, agents = map(json.loads, row[8:])
    trouble = _why_not_ready(name, state, trouble, draining=draining)
    return Host(
        name=name,
        slots=slots,
        size=Resources(cpus, memory_bytes, disk_bytes),
        overcommit=Overcommit(**overcommit),
        profiles=frozenset(profiles),
        network_modes=frozenset(network_modes),
        agents=frozenset(agents),
        ready=trouble is None,
        trouble=trouble,
    )


def _why_not_ready(name: str, state: str, trouble: str | None, *, draining: bool) -> str | None:
    if state != WorkerState.ACTIVE:
        return f"it is {state}; start it again with `sandbox worker --name {name}`"
    if draining:
        return f"it is draining; `sandbox workers resume {name}` lets it take tasks again"
    return trouble


def _busy(host: Host, slots: int, cpus: Any, memory_bytes: Any, disk_bytes: Any) -> Host:
    if slots == 0:
        return host
    return replace(host, used_slots=slots, used=Resources(float(cpus), int(memory_bytes), int(disk_bytes)))
