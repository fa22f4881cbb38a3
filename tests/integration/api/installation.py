"""A product on a real store with a strict broker, and a build host that does by hand what a worker does."""

from __future__ import annotations

import hashlib
import io
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from orchestrator import clock, journal
from orchestrator.artifacts import open_artifact_store
from orchestrator.broker.messages import Broker, BrokerUnavailable
from orchestrator.models import Artifact, Claim, Kind, NewRecord, Overcommit, Resources, Worker, WorkerState
from orchestrator.outcomes import Outcome, Reason, of_exit
from orchestrator.product import Product
from orchestrator.services import claim as claims
from orchestrator.services import fleet
from orchestrator.services.cancel import confirmed
from orchestrator.services.conclude import conclude
from orchestrator.services.purge import storage_prefix
from orchestrator.settings import load
from orchestrator.states import Event, State
from orchestrator.store import artifacts, tasks
from orchestrator.store.database import Database
from orchestrator.store.migrate import migrate

GIB = 1 << 30
MANIFEST = """\
version: "1"
kind: Task
metadata: {name: A task}
run: {script: "true"}
vm: {profile: basic, cpus: 1, memory: 256M, disk: 1G}
"""
STEPS = (
    (State.STAGING, Event.WORKSPACE_MADE),
    (State.PROVISIONING, Event.SANDBOX_VERIFIED),
    (State.READY, Event.GATE_OPENED),
)


class StrictBroker:
    """Takes doorbells like the real one, and refuses any that does not tell about a committed placement."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self.attempts: list[tuple[str, str, int]] = []
        self.cancels: list[tuple[str, str, int]] = []
        self.down = False

    def send_attempt(self, worker: str, task_id: str, attempt: int) -> None:
        self._reach()
        with self._database.read() as tx:
            task = tasks.get(tx, task_id)
        assert task is not None, f"task {task_id} was announced before it was stored"
        assert (task.worker, task.attempt + 1) == (worker, attempt) or task.state is not State.PENDING
        with self._lock:
            self.attempts.append((worker, task_id, attempt))

    def send_cancel(self, worker: str, task_id: str, attempt: int) -> None:
        self._reach()
        with self._database.read() as tx:
            task = tasks.get(tx, task_id)
        assert task is not None
        assert task.cancellation is not None, "the wish was announced before it was stored"
        with self._lock:
            self.cancels.append((worker, task_id, attempt))

    def ping(self) -> None:
        self._reach()

    def close(self) -> None:
        self.down = True

    def _reach(self) -> None:
        if self.down:
            raise BrokerUnavailable("the broker was not reached: it is down for this test; start it")


def open_product(data_dir: Path, *, migrated: bool = False, **changes: Any) -> Product:
    settings = replace(load({}, data_dir=data_dir), **changes)
    data_dir.mkdir(parents=True, exist_ok=True)
    database = Database(settings.store_url)
    if not migrated:
        migrate(database)
    broker = cast(Broker, StrictBroker(database))
    return Product(settings, database, broker, open_artifact_store(settings.artifacts_url))


def broker_of(product: Product) -> StrictBroker:
    return cast(StrictBroker, product.broker)


class BuildHost:
    """A worker without sandboxes: it claims, writes and concludes through the services, when a test says so."""

    def __init__(self, product: Product, name: str = "host-1") -> None:
        self.product = product
        self.name = name

    def register(self, *, slots: int = 100, cpus: float = 8.0, memory: int = 64 * GIB, disk: int = 500 * GIB) -> None:
        now = clock.now()
        worker = Worker(
            name=self.name,
            state=WorkerState.ACTIVE,
            slots=slots,
            host=Resources(cpus, memory, disk),
            overcommit=Overcommit(4, 1, 1),
            profiles=("basic", "agentic-dev"),
            network_modes=("isolated",),
            agents=("run", "claude"),
            trouble=None,
            heartbeat=0,
            heartbeat_at=now,
            registered_at=now,
        )
        fleet.register(self.product, worker)

    def claim(self, task_id: str) -> Claim:
        with self.product.database.read() as tx:
            task = tasks.get(tx, task_id)
        assert task is not None
        claimed = claims.claim(self.product, self.name, task_id, task.attempt + 1)
        assert claimed is not None, f"task {task_id} is not placed on {self.name}: {task.state_message}"
        return claimed.claim

    def run(self, task_id: str) -> Claim:
        claim = self.claim(task_id)
        for state, event in STEPS:
            claims.advance(self.product, claim, state, event, event.value)
        return claim

    def end_command(self, claim: Claim, **facts: Any) -> None:
        claims.advance(self.product, claim, State.RUNNING, Event.ENDED, "collecting", **facts)

    def write(self, claim: Claim, *records: NewRecord) -> None:
        with self.product.database.write() as tx:
            journal.append(tx, claim, records)

    def say(self, claim: Claim, *texts: str | bytes, stream: str = "stdout") -> None:
        """Each text is a row of output."""
        data = [text.encode() if isinstance(text, str) else text for text in texts]
        self.write(claim, *(journal.output(stream, one, clock.now()) for one in data))

    def tell(self, claim: Claim, message: str) -> None:
        self.write(claim, NewRecord(Kind.SYSTEM, clock.now(), body={"message": message}))

    def drop(self, claim: Claim, size: int) -> None:
        body = {"dropped_bytes": size, "message": f"{size} bytes were dropped: the log limit was reached"}
        self.write(claim, NewRecord(Kind.GAP, clock.now(), body=body))

    def keep(self, claim: Claim, files: dict[str, bytes]) -> None:
        found = []
        for number, (path, data) in enumerate(files.items()):
            key = f"{storage_prefix(claim.task_id)}/{claim.attempt}/{number}"
            self.product.artifacts.put(key, io.BytesIO(data), limit=len(data))
            digest = hashlib.sha256(data).hexdigest()
            found.append(Artifact(claim.task_id, claim.attempt, path, len(data), "text/html", digest, clock.now(), key))
        with self.product.database.write() as tx:
            artifacts.replace_all(tx, claim.task_id, claim.attempt, found)

    def exit(self, claim: Claim, code: int = 0) -> State:
        """The command ends; everything is stored."""
        self.end_command(claim)
        return conclude(self.product, claim, of_exit(code, oom_killed=False))

    def lose(self, claim: Claim) -> State:
        return conclude(self.product, claim, Outcome(Reason.WORKER_LOST, "the worker was lost"))

    def confirm_cancel(self, claim: Claim) -> State:
        with self.product.database.read() as tx:
            task = tasks.get(tx, claim.task_id)
        assert task is not None
        assert task.cancellation is not None
        return conclude(self.product, claim, confirmed(task))
