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
    """A worker starts (again) under its name: what it can do is what it says now."""
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
    }
    known = tx.execute(
        workers.update().where(workers.c.name == worker.name).values(heartbeat=workers.c.heartbeat + 1, **values)
    )
    if known.rowcount == 0:
        tx.execute(workers.insert().values(name=worker.name, heartbeat=1, **values))


def beat(tx: sa.Connection, name: str, at: datetime, trouble: str | None) -> bool:
    """Raise the heartbeat counter; true when what the worker reports changed (placement should look again).

    A lost worker is active again. A stopped one is not: its last heartbeat may come after its goodbye.
    """
    before = get(tx, name)
    if before is None:
        raise UnknownWorker(name)
    state = WorkerState.ACTIVE if before.state is WorkerState.LOST else before.state
    tx.execute(
        workers.update()
        .where(workers.c.name == name)
        .values(heartbeat=workers.c.heartbeat + 1, heartbeat_at=at, trouble=trouble, state=state.value)
    )
    return (before.trouble, before.state) != (trouble, state)


class UnknownWorker(Exception):
    """An operator removed this worker from the store; restart it to register again."""

    def __init__(self, name: str) -> None:
        super().__init__(f"worker {name} is not registered any more; restart it to register again")


def set_state(tx: sa.Connection, name: str, state: WorkerState, *, adopt_until: datetime | None = None) -> None:
    tx.execute(workers.update().where(workers.c.name == name).values(state=state.value, adopt_until=adopt_until))


def set_trouble(tx: sa.Connection, name: str, trouble: str) -> None:
    """Say what keeps a worker from running tasks, before its next heartbeat does."""
    tx.execute(workers.update().where(workers.c.name == name).values(trouble=trouble))


def get(tx: sa.Connection, name: str) -> Worker | None:
    row = tx.execute(sa.select(workers).where(workers.c.name == name)).mappings().first()
    return rows.worker(row) if row else None


def all_of(tx: sa.Connection) -> list[Worker]:
    return [rows.worker(row) for row in tx.execute(sa.select(workers).order_by(workers.c.name)).mappings()]


def adopt_until(tx: sa.Connection, name: str) -> datetime | None:
    """Until when the attempts of a worker stopped by TERM wait for it."""
    found: datetime | None = tx.scalar(sa.select(workers.c.adopt_until).where(workers.c.name == name))
    return found


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
