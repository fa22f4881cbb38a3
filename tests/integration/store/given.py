"""What the tests of the store begin with: manifests, workers, tasks that are some way along."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from orchestrator import clock, manifest
from orchestrator.manifest import Manifest, ManifestPolicy
from orchestrator.models import Claim, Overcommit, Record, Resources, Task, Worker, WorkerState
from orchestrator.product import Product
from orchestrator.services import fleet
from orchestrator.services.claim import advance, claim
from orchestrator.services.submit import submit
from orchestrator.states import Event, State
from orchestrator.store import tasks, workers
from orchestrator.store.tables import tasks as task_table

GIB = 1 << 30
POLICY = ManifestPolicy(profiles=frozenset({"basic", "agentic-dev"}), allowed_images=("sandbox/*",))
STEPS = (Event.WORKSPACE_MADE, Event.SANDBOX_VERIFIED, Event.GATE_OPENED, Event.ENDED)


def manifest_of(
    name: str = "n", *, task_id: str | None = None, labels: dict[str, str] | None = None, **sections: Any
) -> Manifest:
    """A small task; `sections` are those of the manifest. With `claude` it is an agent's."""
    work: dict[str, Any] = {"run": {"command": ["true"]}}
    if "claude" in sections:
        work = {"repository": {"url": "https://example.test/r.git"}}
    data = {
        "version": "1",
        "kind": "Task",
        "metadata": {"id": task_id, "name": name, "labels": labels or {}},
        **work,
        "vm": {"cpus": 1, "memory": "1G", "disk": "1G", "profile": "basic", **sections.pop("vm", {})},
        **sections,
    }
    return manifest.check(data, policy=POLICY)


def worker_of(name: str = "w", *, slots: int = 4, cpus: float = 8, **fields: Any) -> Worker:
    at = clock.now()
    known: dict[str, Any] = {
        "host": Resources(cpus, 4096 * GIB, 4096 * GIB),
        "overcommit": Overcommit(1, 1, 1),
        "profiles": ("basic",),
        "network_modes": ("isolated",),
        "agents": ("run",),
        **fields,
    }
    return Worker(
        name=name, state=WorkerState.ACTIVE, slots=slots, trouble=None, heartbeat=0, heartbeat_at=at, registered_at=at,
        **known,
    )  # fmt: skip


def talking(product: Product, task_id: str = "t", *, until: State = State.RUNNING, **sections: Any) -> Claim:
    """An interactive agent's task at `until`, on a worker that runs agents."""
    registered(product, slots=1000, cpus=1000, agents=("run", "claude"))
    claude = {"prompt": "do it", "interactive": True, **sections.pop("claude", {})}
    return running(product, task_id, until=until, claude=claude, **sections)


def registered(product: Product, name: str = "w", **fields: Any) -> str:
    fleet.register(product, worker_of(name, **fields))
    return name


def submitted(product: Product, task_id: str | None = None, **sections: Any) -> Task:
    return submit(product, manifest_of(task_id=task_id, **sections))


def claimed(product: Product, task_id: str = "t", worker: str = "w", attempt: int = 1) -> Claim:
    task = claim(product, worker, task_id, attempt)
    assert task is not None, f"attempt {attempt} of {task_id} is not there for {worker}"
    return task.claim


def running(
    product: Product, task_id: str = "t", worker: str = "w", *, until: State = State.RUNNING, **sections: Any
) -> Claim:
    """A task submitted, claimed by `worker` and brought to `until`."""
    submitted(product, task_id, **sections)
    mine = claimed(product, task_id, worker)
    brought(product, mine, until)
    return mine


def brought(product: Product, mine: Claim, until: State) -> None:
    for event in STEPS:
        state = now(product, mine.task_id).state
        if state is until:
            return
        advance(product, mine, state, event, f"{event} happened")


def now(product: Product, task_id: str) -> Task:
    with product.database.read() as tx:
        task = tasks.get(tx, task_id)
    assert task is not None, f"no task {task_id}"
    return task


def worker_now(product: Product, name: str) -> Worker:
    with product.database.read() as tx:
        worker = workers.get(tx, name)
    assert worker is not None, f"no worker {name}"
    return worker


def aged(product: Product, task_id: str, seconds: float) -> None:
    """Let the past of a task lie further back: what waits for an instant has it earlier."""
    columns = ("sent_at", "not_before", "queue_deadline", "finished_at", "preserve_until")
    with product.database.write() as tx:
        for name in columns:
            column = task_table.c[name]
            row = tx.execute(task_table.select().where(task_table.c.id == task_id)).mappings().one()
            if row[name] is not None:
                value = row[name] - timedelta(seconds=seconds)
                tx.execute(task_table.update().where(task_table.c.id == task_id).values({column: value}))


def together(*actions: Callable[[], Any]) -> list[Any]:
    """Run the actions in threads that start at once; return what each gave or raised, in their order."""
    results: list[Any] = [None] * len(actions)
    barrier = threading.Barrier(len(actions))

    def run(index: int) -> None:
        barrier.wait()
        try:
            results[index] = actions[index]()
        except Exception as error:  # noqa: BLE001 - a result like any other
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    return results


def numbers(records: Sequence[Record]) -> list[int]:
    """The sequence numbers that rows stand for."""
    return [seq for record in records for seq in range(record.first_seq, record.last_seq + 1)]
