"""What a worker works with: the product's parts, the engine, the keeper, the journal writer, its own size."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib import metadata

from orchestrator import clock
from orchestrator.manifest import Repository
from orchestrator.models import Overcommit, Resources, Worker, WorkerState
from orchestrator.placement import Host
from orchestrator.product import Product
from orchestrator.store.workers import as_host
from workers import egress
from workers.agents import AGENTS
from workers.journal_writer import Writer
from workers.keeper_client import KeeperClient
from workers.outages import Outages
from workers.sandbox.port import SandboxBackend

NETWORK_MODES = ("isolated",)
"""The modes this version enforces. A mode that is not here is refused by placement, never silently opened."""


@dataclass(frozen=True)
class Equipment:
    """Shared by all attempts of this process. Thread-safe."""

    product: Product
    backend: SandboxBackend
    keeper: KeeperClient
    writer: Writer
    installation: str
    host_id: str
    size: Resources
    outages: Outages = field(default_factory=Outages)
    salvaging: threading.Lock = field(default_factory=threading.Lock)

    @property
    def git_image(self) -> str:
        """Our own image with git; never one that a task names."""
        return self.product.settings.profiles["basic"].image

    def as_worker(self, trouble: str | None) -> Worker:
        settings, now = self.product.settings, clock.now()
        return Worker(
            name=settings.worker_name,
            state=WorkerState.ACTIVE,
            slots=settings.concurrency,
            host=self.size,
            overcommit=Overcommit(settings.cpu_overcommit, settings.memory_overcommit, settings.disk_overcommit),
            profiles=tuple(settings.profiles),
            network_modes=NETWORK_MODES,
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
        self, repository: Repository | None
    ) -> Callable[[int], AbstractContextManager[egress.EgressReport]] | None:
        """Opens the way to the repository's host, and to nothing else, inside a helper's network namespace."""
        if repository is None or not repository.url.startswith(("https://", "http://")):
            return None
        policy = egress.Policy.for_url(repository.url, self.product.settings.egress_private_cidrs)
        return lambda process_id: egress.listener(process_id, policy)


def host_resources(backend: SandboxBackend, product: Product) -> Resources:
    """This host's size: the engine's cpus and memory, the disk that holds the workspaces."""
    work_dir = product.settings.work_dir
    work_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
    engine = backend.host_size()
    return Resources(engine.cpus, engine.memory_bytes, shutil.disk_usage(work_dir).total)
