"""The fleet in the store: registration, heartbeat, loss."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator.models import Worker, WorkerState
from orchestrator.placement import NOTHING, Host
from orchestrator.store import rows
from orchestrator.store.queue import held_by_worker
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


def hosts(tx: sa.Connection) -> list[Host]:
    """The fleet as placement sees it, with what is held."""
    held = held_by_worker(tx)
    found = []
    for worker in all_of(tx):
        slots, used = held.get(worker.name, (0, NOTHING))
        found.append(replace(as_host(worker), used_slots=slots, used=used))
    return found


def as_host(worker: Worker) -> Host:
    trouble = worker.trouble
    if worker.state is not WorkerState.ACTIVE:
        trouble = f"it is {worker.state}; start it again with `sandbox worker --name {worker.name}`"
    elif worker.draining:
        trouble = f"it is draining; `sandbox workers resume {worker.name}` lets it take tasks again"
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
