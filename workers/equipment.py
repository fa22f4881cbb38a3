"""What a worker works with: the product's parts, the engine, the keeper, the journal writer, its own size."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib import metadata

from orchestrator import clock
from orchestrator.manifest import Repository
from orchestrator.models import Claim, Overcommit, Resources, Worker, WorkerState
from orchestrator.placement import Host
from orchestrator.product import Product
from orchestrator.store.workers import as_host
from workers import egress
from workers.agents import AGENTS
from workers.egress.ledger import Ledger
from workers.journal_writer import Writer
from workers.keeper_client import KeeperClient
from workers.known_engine import KnownEngine
from workers.model_api.access import Access, read_access
from workers.model_api.prices import BUILT_IN, Prices
from workers.network.entry import Entrance, Entry
from workers.network.full import FullNetwork
from workers.offered import offered
from workers.outages import Outages
from workers.own_lease import OwnLease
from workers.sandbox.port import SandboxBackend
from workers.task_disk import TaskDisks

NETWORK_MODES = ("isolated", "outbound")
"""The modes every worker enforces. One that a worker does not name is refused by placement, never silently opened."""


@dataclass(frozen=True)
class Equipment:
    """Shared by all attempts of this process. Thread-safe.

    `entry`: how a listener of this worker gets into a sandbox. `salvage_failures`: how often this process could not
    bring in what an attempt left; guarded by `salvaging`. `probed`: images (by id) in which an agent is known to run.
    """

    product: Product
    backend: SandboxBackend
    keeper: KeeperClient
    writer: Writer
    installation: str
    host_id: str
    size: Resources
    entry: Entry
    full_network: FullNetwork
    outages: Outages = field(default_factory=Outages)
    lease: OwnLease = field(default_factory=OwnLease)
    salvaging: threading.Lock = field(default_factory=threading.Lock)
    salvage_failures: Counter[Claim] = field(default_factory=Counter)
    probed: set[tuple[str, str]] = field(default_factory=set)
    model_prices: Prices = BUILT_IN

    def model_access(self) -> Access:
        """Where the model API is, and what opens it. Raises `ModelKeyUnavailable`."""
        return read_access(self.product.settings)

    @cached_property
    def disks(self) -> TaskDisks:
        """How `vm.disk` is held here."""
        return TaskDisks(self.product.settings.work_dir, self.backend.sees)

    @cached_property
    def engine(self) -> KnownEngine:
        """What the engine can do."""
        return KnownEngine(self.backend, self.outages)

    @property
    def git_image(self) -> str:
        """Our own image with git; never one that a task names."""
        return self.product.settings.profiles["basic"].image

    @property
    def network_modes(self) -> tuple[str, ...]:
        """The modes that this worker enforces now; the full network can go and come back."""
        return (*NETWORK_MODES, *(("full",) if self.full_network.trouble is None else ()))

    def as_worker(self, trouble: str | None) -> Worker:
        settings, now = self.product.settings, clock.now()
        return Worker(
            name=settings.worker_name,
            state=WorkerState.ACTIVE,
            slots=settings.concurrency,
            host=self.size,
            overcommit=Overcommit(settings.cpu_overcommit, settings.memory_overcommit, settings.disk_overcommit),
            profiles=offered(settings.profiles.values(), self.engine.last),
            network_modes=self.network_modes,
            agents=tuple(AGENTS),
            trouble=trouble,
            heartbeat=0,
            heartbeat_at=now,
            registered_at=now,
            host_id=self.host_id,
            version=metadata.version("sandbox-orchestrator"),
        )

    def as_host(self) -> Host:
        return as_host(self.as_worker(None))

    def repository_network(
        self, repository: Repository | None, traffic: Ledger, entrance: Callable[[str], Entrance]
    ) -> Callable[[str], AbstractContextManager[egress.EgressReport]] | None:
        """Opens the way to the repository's host, and to nothing else, in a helper's sandbox, given by its id.

        `traffic` is told of the bytes.
        """
        if repository is None or repository.url.startswith("file://"):
            return None
        policy = egress.Policy.for_url(repository.url, self.product.settings.egress_private_cidrs)
        report = partial(egress.EgressReport, counted=traffic.on_bytes)
        return lambda sandbox: egress.listener(entrance(sandbox), policy, report())


def host_resources(backend: SandboxBackend, product: Product) -> Resources:
    """This host's size: the engine's cpus and memory, the disk that holds the workspaces."""
    work_dir = product.settings.work_dir
    work_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
    engine = backend.host_size()
    return Resources(engine.cpus, engine.memory_bytes, shutil.disk_usage(work_dir).total)
