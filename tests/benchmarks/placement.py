"""What a round of placement and a submission cost while many tasks wait and a thousand workers are full."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from orchestrator import clock, placement
from orchestrator.models import Claim, Overcommit, Resources, Worker, WorkerState
from orchestrator.outcomes import of_exit
from orchestrator.services.conclude import conclude
from orchestrator.services.place import place, take_turn
from orchestrator.services.submit import submit
from orchestrator.states import State
from orchestrator.store import workers
from orchestrator.store.tables import tasks
from tests.benchmarks.stores import KINDS, NUMBER, SPREAD, Store, manifest_of, opened
from tests.benchmarks.table import Row, from_samples

WORKERS = 1000
SLOTS = 4
GIB = 1 << 30
_MEMORIES = ("256M", "512M", "1G", "2G")


def rounds(quick: bool) -> list[Row]:
    """For each database and number of waiting tasks: a round that finds one free slot, an ending, a submission."""
    rows: list[Row] = []
    samples = 5 if quick else 40
    for kind in KINDS:
        with opened(kind) as store:
            _fleet(store)
            waiting = 0
            for pending in (1_000, 10_000) if quick else (1_000, 10_000, 100_000):
                _wait(store, pending - waiting, waiting)
                waiting = pending
                rows += _measured(store, f"{kind}, {pending:,} wait", samples)
            _make_every_demand_different(store)
            rows += _measured(store, f"{kind}, {waiting:,} wait, each for another size", samples)
    return rows


def _measured(store: Store, where: str, samples: int) -> list[Row]:
    product = store.product
    store.settle()
    ended = of_exit(0, oom_killed=False)
    running = iter(_claims(store, samples + 1))

    def one_round() -> float:
        with _rolled_back(store) as tx:
            take_turn(tx)
            freed = sa.select(tasks.c.id).where(tasks.c.state == State.COMPLETING.value).limit(1).scalar_subquery()
            tx.execute(tasks.update().where(tasks.c.id == freed).values(finished_at=clock.now(), state="completed"))
            began = time.perf_counter()
            placed = place(tx, clock.now())
            took = time.perf_counter() - began
        assert len(placed) == 1, f"one slot was free and {len(placed)} tasks were placed"
        return took * 1000

    def ending() -> float:
        claim = next(running)
        began = time.perf_counter()
        conclude(product, claim, ended)
        return (time.perf_counter() - began) * 1000

    def submission() -> float:
        began = time.perf_counter()
        submit(product, manifest_of())
        return (time.perf_counter() - began) * 1000

    return [
        _row(f"round, {where}", one_round, samples, note=f"{WORKERS:,} workers, one slot free; without the commit"),
        _row(f"attempt ended, {where}", ending, samples, note="with its round, commit and message"),
        _row(f"submission, {where}", submission, samples, note="all slots taken; with its commit"),
    ]


def _row(what: str, sample: Callable[[], float], samples: int, note: str) -> Row:
    sample()  # SQLAlchemy learns its statements
    times = [sample() for _ in range(samples)]
    return from_samples(what, times, note=f"fastest {min(times):.2g} ms; {note}")


@contextmanager
def _rolled_back(store: Store) -> Iterator[sa.Connection]:
    with store.product.database.write() as tx:
        inner = tx.begin_nested()
        yield tx
        inner.rollback()


def _fleet(store: Store) -> None:
    """Workers of many sizes that are full, and too small in memory for what waits of the second profile."""
    at = clock.now()
    with store.product.database.write() as tx:
        for number in range(WORKERS):
            size = Resources(8, 64 * GIB, (1000 + number) * GIB)
            profiles = ("basic", "agentic-dev") if number % 10 == 0 else ("basic",)
            workers.register(
                tx,
                Worker(
                    f"worker-{number:04}", WorkerState.ACTIVE, SLOTS, size, Overcommit(1, 1, 1), profiles,
                    ("isolated",), ("run",), None, 0, at, at,
                ),
            )  # fmt: skip
    worker = sa.literal("worker-") + sa.func.substr(sa.cast(10_000 + NUMBER % WORKERS, sa.String), 2)
    columns: dict[str, Any] = {
        "id": sa.literal("live-") + SPREAD,
        "state": sa.literal(State.COMPLETING.value),
        "worker": worker,
        "attempt": sa.literal(1),
        "fence": sa.literal(1),
        "held_cpus": sa.literal(1.0),
        "held_memory_bytes": tasks.c.memory_bytes,
        "held_disk_bytes": tasks.c.disk_bytes,
    }
    store.copy_template(WORKERS * SLOTS, columns)


def _wait(store: Store, count: int, before: int) -> None:
    """Half of them wait for the profile that one worker in ten offers, in front of the others."""
    for index, memory in enumerate(_MEMORIES):
        for profile in ("basic", "agentic-dev"):
            manifest = manifest_of(memory=memory, profile=profile)
            demand = placement.demand_of(manifest)
            columns = {
                "id": sa.literal(f"{profile}-{memory}-{before}-") + SPREAD,
                "priority": sa.literal(1 if profile == "agentic-dev" else 0),
                "created_at": tasks.c.created_at + sa.cast(NUMBER * 8 + index, sa.BigInteger),
                "memory_bytes": sa.literal(manifest.vm.memory_bytes, sa.BigInteger),
                "profile": sa.literal(profile),
                "demand": sa.literal(demand.key),
                "worker": sa.null(),  # the template itself may have been placed by now
                "sent_at": sa.null(),
            }
            store.copy_template(count // (2 * len(_MEMORIES)), columns)


def _make_every_demand_different(store: Store) -> None:
    with store.product.database.write() as tx:
        where = (tasks.c.state == State.PENDING.value, tasks.c.worker.is_(None))
        ids = tx.scalars(sa.select(tasks.c.id).where(*where)).all()
        changed = [
            {"one": task_id, "size": 200_000_000 + number, "key": f"{number * 2654435761 % (1 << 32):08x}"}
            for number, task_id in enumerate(ids)
        ]
        values = {"memory_bytes": sa.bindparam("size"), "demand": sa.bindparam("key")}
        tx.execute(tasks.update().where(tasks.c.id == sa.bindparam("one")).values(values), changed)


def _claims(store: Store, count: int) -> list[Claim]:
    with store.product.database.read() as tx:
        query = sa.select(tasks.c.id).where(tasks.c.state == State.COMPLETING.value).limit(count)
        return [Claim(task_id, 1, 1) for task_id in tx.scalars(query)]
