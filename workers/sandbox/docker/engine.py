"""The Docker Engine as a sandbox backend. The SDK's words stop here."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, ImageNotFound, NotFound

from orchestrator.models import Resources
from workers.sandbox import launcher
from workers.sandbox.docker import bridge, images
from workers.sandbox.docker.connection import ENGINE_ERRORS, TIMEOUT_SECONDS, connect
from workers.sandbox.docker.facts import facts_of
from workers.sandbox.docker.golden_list import mismatches
from workers.sandbox.docker.log_stream import follow_log
from workers.sandbox.docker.spec import container_config
from workers.sandbox.docker.stats import use_of
from workers.sandbox.docker.visibility import sees_directory
from workers.sandbox.labels import INSTALLATION, WORKER
from workers.sandbox.port import (
    BridgeSpec,
    EngineFacts,
    EngineUnavailable,
    Found,
    Image,
    ImageUnavailable,
    Inspection,
    SandboxError,
    SandboxGone,
    SandboxSpec,
    SandboxUse,
)

CONFLICT = 409
"""The engine's answer to a kill of what does not run, and to a removal that is in progress (Engine API 1.41)."""
PING_SECONDS = 10
"""An engine that takes longer hangs: the other calls wait longer, because a busy disk can hold them up."""
KILL_MEMORY_SECONDS = 60


class DockerBackend:
    """See `SandboxBackend`. One client serves all threads. `registry_config`: see `registry_config.py`."""

    def __init__(self, installation: str, worker: str, registry_config: Path | None = None) -> None:
        self._registry_config = registry_config
        self._filters = {"label": [f"{INSTALLATION}={installation}", f"{WORKER}={worker}"]}
        self._connecting = threading.Lock()
        self._connected: docker.APIClient | None = None
        self._with_shell: set[str] = set()

    @property
    def _api(self) -> docker.APIClient:
        """The client, made at first use: a worker starts, and says so, while its engine is down."""
        with self._connecting:
            if self._connected is None:
                self._connected = connect()
            return self._connected

    def close(self) -> None:
        """Close what is connected; the next call connects again."""
        with self._connecting:
            connected, self._connected = self._connected, None
        if connected is not None:
            connected.close()

    def ping(self) -> None:
        with _translated():
            self._api.get(f"{self._api.base_url}/_ping", timeout=PING_SECONDS).raise_for_status()

    def survives_restart(self) -> bool:
        with _translated():
            return bool(self._api.info().get("LiveRestoreEnabled"))

    def host_size(self) -> Resources:
        with _translated():
            info = self._api.info()
        return Resources(float(info["NCPU"]), int(info["MemTotal"]), 0)

    def facts(self) -> EngineFacts:
        with _translated():
            return facts_of(self._api.info())

    def pull(self, image: str, *, interrupted: Callable[[], bool], say: Callable[[str], None]) -> Image:
        with _translated():
            found = images.find(self._api, image)
        if found is not None:
            return found
        say(f"pulling image {image}")
        images.fetch(image, self._registry_config, interrupted=interrupted, say=say)
        with _translated():
            found = images.find(self._api, image)
        if found is None:
            raise ImageUnavailable(images.unavailable(image, "the engine fetched something else"))
        return found

    def sees(self, directory: Path) -> bool:
        with _translated():
            return sees_directory(self._api, directory)

    def create(self, spec: SandboxSpec) -> str:
        with _translated():
            try:
                made = self._api.create_container_from_config(container_config(spec), name=spec.name)
            except ImageNotFound as error:
                raise ImageUnavailable(images.unavailable(spec.image, "it is not on this host")) from error
        sandbox = str(made["Id"])
        try:
            self._check_shell(sandbox, spec.image)
        except BaseException:
            self.destroy(sandbox)
            raise
        return sandbox

    def _check_shell(self, sandbox: str, image: str) -> None:
        """With an init in front, an image that cannot run the launcher would end silently, after its start."""
        if image in self._with_shell:
            return
        url = f"{self._api.base_url}/v{self._api.api_version}/containers/{sandbox}/archive"
        with _translated():
            found = self._api.head(url, params={"path": launcher.SHELL}, timeout=TIMEOUT_SECONDS)
        if found.status_code == requests.codes.not_found:
            raise SandboxError(
                f"image {image} has no {launcher.SHELL}: the gate of a sandbox is a shell script; add one"
            )
        self._with_shell.add(image)

    def attach(self, sandbox: str) -> int:
        with _translated():
            streams = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            connection = self._api.attach_socket(sandbox, params=streams)
            response = getattr(connection, "_response", connection)  # it holds the socket open
            with closing(response):
                return os.dup(connection.fileno())

    def follow_log(self, sandbox: str) -> int:
        with _translated():
            return follow_log(self._api.api_version, sandbox)

    def start(self, sandbox: str) -> None:
        with _translated():
            self._api.start(sandbox)

    def inspect(self, sandbox: str, spec: SandboxSpec | None = None) -> Inspection:
        with _translated():
            found: dict[str, Any] = self._api.inspect_container(sandbox)
        state = found["State"]
        running, started = bool(state["Running"]), not state["StartedAt"].startswith("0001-")
        return Inspection(
            running=running,
            started=started,
            exit_code=state["ExitCode"] if started and not running else None,
            oom_killed=bool(state["OOMKilled"]),
            process_id=state["Pid"] or None,
            finished_at=datetime.fromisoformat(state["FinishedAt"]) if started and not running else None,
            mismatches=mismatches(found, spec) if spec else (),
            runtime=found["HostConfig"].get("Runtime"),
        )

    def written_bytes(self, sandbox: str) -> int:
        url = f"{self._api.base_url}/v{self._api.api_version}/containers/{sandbox}/json"
        with _translated():
            found = self._api.get(url, params={"size": 1}, timeout=TIMEOUT_SECONDS)
            if found.status_code == requests.codes.not_found:
                raise SandboxGone(f"the engine knows no sandbox {sandbox}")
            found.raise_for_status()
            return int(found.json().get("SizeRw") or 0)

    def used(self, sandbox: str) -> SandboxUse | None:
        with _translated():
            return use_of(self._api.stats(sandbox, stream=False, one_shot=True))

    def kill(self, sandbox: str, signal: str) -> None:
        with _translated():
            try:
                self._api.kill(sandbox, signal)
            except APIError as error:
                if error.status_code != CONFLICT:
                    raise

    def killed_from_outside(self, sandbox: str) -> bool:
        filters = {"type": ["container"], "event": ["kill"], "container": [sandbox]}
        now = time.time()
        since: Any = f"{now - KILL_MEMORY_SECONDS:.6f}"
        until: Any = f"{now:.6f}"
        with _translated(), closing(self._api.events(decode=True, filters=filters, since=since, until=until)) as kills:
            return any(True for _ in kills)

    def destroy(self, sandbox: str) -> None:
        with _translated():
            try:
                self._api.remove_container(sandbox, force=True, v=True)
            except NotFound:
                return
            except APIError as error:
                if error.status_code != CONFLICT:
                    raise
            else:
                return
            with suppress(NotFound):  # another one removes it: wait until it is gone
                self._api.wait(sandbox, condition="removed", timeout=TIMEOUT_SECONDS)

    def find(self) -> list[Found]:
        with _translated():
            listed = self._api.containers(all=True, filters=self._filters)
        return [
            Found(one["Id"], next(iter(one["Names"] or ()), "").lstrip("/"), one["Labels"], one["State"] == "running")
            for one in listed  # one that is being removed has no name any more
        ]

    def endings(self) -> Iterator[str]:
        filters = {**self._filters, "type": ["container"], "event": ["die", "destroy"]}
        with _translated():
            # The engine answers a moment before it has subscribed us; it remembers what happened meanwhile.
            # A fraction of a second is a text to the engine (Engine API, `GET /events`); the types know none.
            since: Any = f"{time.time():.6f}"
            stream = self._api.events(decode=True, filters=filters, since=since)
            yield ""
            for event in stream:
                yield str(event["Actor"]["ID"])
        raise EngineUnavailable("the engine ended its stream of events: it was stopped, or restarted")

    def make_bridge(self, spec: BridgeSpec) -> None:
        with _translated():
            bridge.make_bridge(self._api, spec)

    def bridge_faults(self, spec: BridgeSpec) -> tuple[str, ...]:
        with _translated():
            return bridge.bridge_faults(self._api, spec)

    def remove_bridge(self, name: str) -> None:
        with _translated():
            bridge.remove_bridge(self._api, name)

    def stop_argv(self, sandbox: str) -> list[str]:
        return [sys.executable, "-P", "-m", "workers.sandbox.docker.stop", sandbox]


@contextmanager
def _translated() -> Iterator[None]:
    """Translate by exception class, never by message text."""
    try:
        yield
    except NotFound as error:
        raise SandboxGone(f"the engine knows no such sandbox: {error.explanation}") from error
    except APIError as error:
        if error.is_server_error() and error.explanation is None:
            raise EngineUnavailable(f"the Docker Engine failed: {error}") from error
        raise SandboxError(f"the Docker Engine refused: {error.explanation}") from error
    except ENGINE_ERRORS as error:
        raise EngineUnavailable(f"the Docker Engine does not answer: {error}; start it, or set DOCKER_HOST") from error
