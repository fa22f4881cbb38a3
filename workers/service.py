"""Put a worker together and run it until it is told to stop."""

from __future__ import annotations

import fcntl
import logging
import os
import resource
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.broker.app import BrokerSettings, create_app
from orchestrator.broker.consumer import run_worker
from orchestrator.models import Claim, Resources
from orchestrator.product import Product, open_product
from orchestrator.reaper import Reaper
from orchestrator.settings import Settings
from orchestrator.supervised import END_SANDBOXES, end_with_parent
from workers.egress.namespace import why_not
from workers.equipment import Equipment, host_resources
from workers.host import WorkerHost
from workers.journal_writer import JournalWriter
from workers.keeper_client import KeeperClient
from workers.model_api.prices import read_prices
from workers.network.entry import Entry, choose_entry
from workers.network.full import FullNetwork
from workers.sandbox.docker import registry_config
from workers.sandbox.docker.connection import engine_process
from workers.sandbox.docker.engine import DockerBackend
from workers.sandbox.port import EngineUnavailable, SandboxBackend

log = logging.getLogger(__name__)

END_ALL_PATIENCE_SECONDS = 60.0
PREDECESSOR_SECONDS = 20.0


def serve(settings: Settings) -> None:
    """Run a worker in this process (main thread) until TERM or INT.

    If `up` left its wish (`END_SANDBOXES`), what runs is ended too, else it is left to be adopted.
    Raises `WorkerRunsAlready`, `UnusableRegistryConfig`.
    """
    end_with_parent()
    _set_limits()
    if settings.registry_config is not None:
        registry_config.read(settings.registry_config)
    product = open_product(settings)
    with _only_one(settings):
        host, reaper = _host(product), Reaper(product)
        host.start()
        reaper.start()
        run_worker(
            create_app(BrokerSettings(url=settings.broker_url)),
            settings.worker_name,
            on_attempt=host.accept,
            on_cancel=host.cancel,
            on_ready=lambda: log.info("worker ready", extra={"worker": settings.worker_name}),
            on_stopping=host.stop_taking,
        )
        if (settings.run_dir / END_SANDBOXES).exists():
            host.end_all(END_ALL_PATIENCE_SECONDS)
        else:
            with _second_signal() as hurry:
                host.wait_for_attempts(settings.stop_wait_seconds, hurry)
            host.leave(settings.adopt_seconds)
        reaper.stop()
        log.info("worker stopped", extra={"worker": settings.worker_name})
        # The attempts' threads go on until the very end; leaving without joining them is what adoption is for.
        logging.shutdown()
        os._exit(0)


def _set_limits() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # secrets are in this memory: they never reach a disk
    # Each connection of a sandbox holds two descriptors: with the usual 1024, eight tasks would starve the others.
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def _second_signal() -> Iterator[threading.Event]:
    """Set by a TERM or INT that comes after the first one: the operator does not want to wait any longer."""
    hurry = threading.Event()
    previous = {number: signal.signal(number, lambda *_: hurry.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield hurry
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class WorkerRunsAlready(Exception):
    """Another process is this worker; two of one name would work on the same attempts."""

    exit_code = 2


@contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """Hold the lock of this data directory; a predecessor may take a moment to end.

    One worker each, whatever its name: it removes what it does not know from there.
    """
    settings.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(settings.run_dir / "worker.lock", os.O_CREAT | os.O_RDWR, 0o600)
    deadline, told = time.monotonic() + PREDECESSOR_SECONDS, False
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise WorkerRunsAlready(
                        f"worker {settings.worker_name} was not started: another one runs on {settings.data_dir} "
                        f"({_holder(lock)}); stop it, or give this one another --data-dir and --name"
                    ) from None
                if not told:
                    wait = {"holder": _holder(lock), "seconds": PREDECESSOR_SECONDS}
                    log.warning("another worker runs on this data directory, waiting for its end", extra=wait)
                told = True
                time.sleep(0.2)
        os.truncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()}, {settings.worker_name}".encode(), 0)
        yield
    finally:
        os.close(lock)


def _holder(lock: int) -> str:
    """What the holder wrote into its lock."""
    return os.pread(lock, 200, 0).decode(errors="replace") or "an unnamed process"


def _host(product: Product) -> WorkerHost:
    settings = product.settings
    installation = product.database.installation_id()
    backend = DockerBackend(installation, settings.worker_name, settings.registry_config)
    hosts: list[WorkerHost] = []

    def claim_lost(claim: Claim) -> None:
        hosts[0].claim_lost(claim)

    equipment = Equipment(
        product=product,
        backend=backend,
        keeper=KeeperClient(
            settings.run_dir / f"keeper-{settings.worker_name}",
            stop_after_seconds=settings.keeper_lease_seconds,
            starts=not settings.keeper_service,
        ),
        writer=JournalWriter(product.database, claim_lost),
        installation=installation,
        host_id=_host_id(settings),
        size=_size(backend, product),
        full_network=FullNetwork.of(backend, settings, installation),
        entry=_entry(backend),
        model_prices=read_prices(settings),
    )
    hosts.append(WorkerHost(equipment))
    return hosts[0]


def _entry(backend: SandboxBackend) -> Entry:
    trouble = why_not(engine_process())
    if trouble is not None:
        log.info("sidecars carry what sandboxes send", extra={"why": trouble})
    return choose_entry(backend, trouble)


def _host_id(settings: Settings) -> str:
    """What tells this host and data directory from others: made once, kept beside the work."""
    path = settings.data_dir / "host-id"
    if not path.exists():
        fresh = path.with_suffix(".new")
        fresh.write_text(uuid.uuid4().hex + "\n", encoding="ascii")
        fresh.rename(path)
    return path.read_text(encoding="ascii").strip()


def _size(backend: SandboxBackend, product: Product) -> Resources:
    """The engine's word; while it is away, the system's: it is the same host."""
    try:
        return host_resources(backend, product)
    except EngineUnavailable as error:
        log.warning("engine unavailable at start", extra={"error": str(error)})
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        disk = os.statvfs(product.settings.work_dir)
        return Resources(float(os.cpu_count() or 1), memory, disk.f_frsize * disk.f_blocks)
