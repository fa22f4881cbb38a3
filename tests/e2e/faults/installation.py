"""An installation of several hosts, all on this machine: real API and worker processes on real servers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import httpx

from orchestrator.store.database import Database
from tests.e2e.faults.fleet_api import FleetApi
from tests.e2e.faults.leftovers import keepers_of, remove_containers, unmount
from tests.e2e.faults.processes import Part
from tests.e2e.faults.services import Broker, Store
from tests.e2e.faults.witness import Witness
from tests.e2e.stack import eventually
from tests.servers.process import free_port

LEASE_SECONDS = 3.0
SHORT_TIMES = {
    "SANDBOX_LEASE_SECONDS": str(LEASE_SECONDS),
    "SANDBOX_HEARTBEAT_SECONDS": "0.5",
    "SANDBOX_STOP_AFTER_SECONDS": "2",
    "SANDBOX_ADOPT_SECONDS": "20",
}
PATIENT = {"SANDBOX_LEASE_SECONDS": "60", "SANDBOX_STOP_AFTER_SECONDS": "60"}
"""For tests in which every host returns: on a busy machine a start takes longer than a short lease."""
KEEPER_SECONDS = 60.0


@dataclass
class Host:
    """One build host: a worker's name, its own data directory, its engine (environment; empty: the default one)."""

    name: str
    data_dir: Path
    worker: Part
    engine: Mapping[str, str]

    def keepers(self) -> list[int]:
        return keepers_of(self.data_dir)

    @property
    def work_dir(self) -> Path:
        return self.data_dir / "work"


@dataclass
class Installation:
    """Made by `running`. Whatever it starts is on this machine; `directory` is the test's own."""

    directory: Path
    store: Store
    broker: Broker
    settings: Mapping[str, str] = field(default_factory=dict)
    api: FleetApi = field(default_factory=FleetApi)
    apis: list[Part] = field(default_factory=list)
    hosts: dict[str, Host] = field(default_factory=dict)
    witnesses: list[Witness] = field(default_factory=list)
    clocks_agree: bool = True
    allowed_tracebacks: list[str] = field(default_factory=list)

    @property
    def artifacts_dir(self) -> Path:
        return self.directory / "artifacts"

    @cached_property
    def id(self) -> str:
        """The installation's id: every label of a sandbox carries it. The store must be there for the first reader."""
        database = Database(self.store.url)
        try:
            return database.installation_id()
        finally:
            database.close()

    def add_api(self, *, start: bool = True, environment: Mapping[str, str] | None = None, **settings: str) -> Part:
        """Another API process; requests of `api` go to it, too."""
        number, port = len(self.apis) + 1, free_port()
        url = f"http://127.0.0.1:{port}"
        part = Part(
            name=f"api{number}",
            command=("api", "--port", str(port), "--data-dir", str(self.directory / f"api{number}")),
            environment=self._environment(environment, settings),
            log_file=self.directory / "logs" / f"api{number}.log",
            is_ready=lambda _: _answers(url),
            alone=False,
        )
        self.apis.append(part)
        self.api.urls.append(url)
        if start:
            part.start()
        return part

    def add_worker(
        self,
        name: str,
        *,
        start: bool = True,
        engine: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        **settings: str,
    ) -> Part:
        """Another host. `environment` is for its processes (a clock), `settings` are SANDBOX_… by name."""
        data_dir = self.directory / name
        part = Part(
            name=name,
            command=("worker", "--name", name, "--data-dir", str(data_dir)),
            environment=self._environment({**(engine or {}), **(environment or {})}, settings),
            log_file=self.directory / "logs" / f"{name}.log",
            is_ready=lambda one: "worker ready" in one.said() and self._is_free(name),
        )
        self.hosts[name] = Host(name, data_dir, part, engine or {})
        if engine and all(witness.engine != engine for witness in self.witnesses):
            self.add_witness(engine)
        if start:
            part.start()
        return part

    def add_workers(self, *names: str, engine: Mapping[str, str] | None = None, **settings: str) -> list[Part]:
        """Several hosts, started side by side."""
        parts = [self.add_worker(name, start=False, engine=engine, **settings) for name in names]
        start_all(parts)
        return parts

    def worker(self, name: str) -> Part:
        return self.hosts[name].worker

    def owner_of(self, task_id: str) -> str:
        """The worker that has claimed the task's present attempt; waits for a claim."""

        def claimed_by() -> object:
            task = self.api.task(task_id)
            return task["state"] != "pending" and task["worker"]

        return str(eventually(f"task {task_id} is claimed", claimed_by))

    def add_witness(self, engine: Mapping[str, str] | None = None) -> None:
        witness = Witness(engine)
        witness.start()
        self.witnesses.append(witness)

    def parts(self) -> list[Part]:
        return [*self.apis, *(host.worker for host in self.hosts.values())]

    def logs(self) -> dict[str, str]:
        """What every process has logged, keepers included."""
        files = [*(self.directory / "logs").glob("*.log"), *self.directory.glob("*/run/keeper-*/keeper.log")]
        return {str(file.relative_to(self.directory)): file.read_text(errors="replace") for file in files}

    def close(self) -> None:
        """End every process, keepers included, and remove what a test that failed left in the engines."""
        for part in self.parts():
            with suppress(Exception):
                part.resume()
            part.kill()
        for host in self.hosts.values():
            for keeper in host.keepers():
                with suppress(ProcessLookupError):
                    os.kill(keeper, signal.SIGKILL)
        for witness in self.witnesses:
            witness.stop()
        for engine in {tuple(host.engine.items()) for host in self.hosts.values()}:
            remove_containers(dict(engine), self.id)
        for host in self.hosts.values():
            unmount(host.data_dir.resolve())
        self.api.close()

    def _is_free(self, name: str) -> bool:
        try:
            found = self.api.workers().get(name)
        except AssertionError:
            return False
        return bool(found and found["state"] != "lost" and not found["trouble"])

    def _environment(self, environment: Mapping[str, str] | None, settings: Mapping[str, str]) -> dict[str, str]:
        shared = {
            "SANDBOX_STORE_URL": self.store.url,
            "SANDBOX_BROKER_URL": self.broker.url,
            "SANDBOX_ARTIFACTS_URL": f"file://{self.artifacts_dir}",
        }
        return {**SHORT_TIMES, **shared, **self.settings, **settings, **(environment or {})}


def start_all(parts: list[Part]) -> None:
    """Start processes side by side; return when all are ready."""
    for part in parts:
        part.start(wait=False)
    for part in parts:
        part.wait_ready()


def end_keepers(installation: Installation) -> Iterator[str]:
    """Ask every keeper to end, as its worker has; what it says to that, if it does not: it holds something."""
    for host in installation.hosts.values():
        for keeper in host.keepers():
            with suppress(ProcessLookupError):
                os.kill(keeper, signal.SIGTERM)
    for host in installation.hosts.values():
        try:
            eventually(f"the keeper of {host.name} has ended", lambda host=host: not host.keepers(), KEEPER_SECONDS)
        except AssertionError:
            yield f"keeper {host.keepers()} of {host.name} holds something although nothing runs"


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/v1/health/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
