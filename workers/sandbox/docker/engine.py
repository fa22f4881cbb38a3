"""The Docker Engine as a sandbox backend. The SDK's words stop here."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from orchestrator.models import Resources
from workers.sandbox.docker.spec import container_config, mismatches
from workers.sandbox.labels import INSTALLATION, WORKER
from workers.sandbox.port import (
    EngineUnavailable,
    Found,
    Image,
    ImageUnavailable,
    Inspection,
    SandboxError,
    SandboxGone,
    SandboxSpec,
)

TIMEOUT_SECONDS = 60
KILLED_ALREADY = 409
"""`POST /containers/{id}/kill` answers 409 for a container that does not run (Engine API 1.41)."""


class DockerBackend:
    """See `SandboxBackend`. One client serves all threads."""

    def __init__(self, installation: str, worker: str) -> None:
        self._filters = {"label": [f"{INSTALLATION}={installation}", f"{WORKER}={worker}"]}
        self._connecting = threading.Lock()
        self._connected: docker.APIClient | None = None

    @property
    def _api(self) -> docker.APIClient:
        """The client, made at first use: a worker starts, and says so, while its engine is down."""
        with self._connecting:
            if self._connected is None:
                self._connected = connect()
            return self._connected

    def ping(self) -> None:
        with _translated():
            self._api.ping()

    def host_size(self) -> Resources:
        with _translated():
            info = self._api.info()
        return Resources(float(info["NCPU"]), int(info["MemTotal"]), 0)

    def pull(self, image: str, *, interrupted: Callable[[], bool], say: Callable[[str], None]) -> Image:
        with _translated():
            try:
                return _image(image, self._api.inspect_image(image))
            except ImageNotFound:
                say(f"pulling image {image}")
            try:
                for progress in self._api.pull(image, stream=True, decode=True):
                    if interrupted():
                        raise ImageUnavailable(f"the pull of image {image} was stopped")
                    if "error" in progress:
                        raise ImageUnavailable(_how_to_get(image, progress["error"]))
                return _image(image, self._api.inspect_image(image))
            except APIError as error:
                raise ImageUnavailable(_how_to_get(image, error.explanation or str(error))) from error

    def create(self, spec: SandboxSpec) -> str:
        with _translated():
            try:
                made = self._api.create_container_from_config(container_config(spec), name=spec.name)
            except ImageNotFound as error:
                raise ImageUnavailable(_how_to_get(spec.image, "it is not on this host")) from error
            return str(made["Id"])

    def attach(self, sandbox: str) -> int:
        with _translated():
            streams = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            connection = self._api.attach_socket(sandbox, params=streams)
            try:
                return os.dup(connection.fileno())
            finally:
                connection.close()

    def start(self, sandbox: str) -> None:
        with _translated():
            self._api.start(sandbox)

    def inspect(self, sandbox: str, spec: SandboxSpec | None = None) -> Inspection:
        with _translated():
            found: dict[str, Any] = self._api.inspect_container(sandbox)
        state = found["State"]
        running = bool(state["Running"])
        return Inspection(
            running=running,
            started=not state["StartedAt"].startswith("0001-"),
            exit_code=None if running else state["ExitCode"],
            oom_killed=bool(state["OOMKilled"]),
            process_id=state["Pid"] or None,
            mismatches=mismatches(found, spec) if spec else (),
        )

    def kill(self, sandbox: str, signal: str) -> None:
        with _translated():
            try:
                self._api.kill(sandbox, signal)
            except APIError as error:
                if error.status_code != KILLED_ALREADY:
                    raise

    def destroy(self, sandbox: str) -> None:
        with _translated():
            try:
                self._api.remove_container(sandbox, force=True, v=True)
            except NotFound:
                return
            except APIError as error:
                if error.status_code != KILLED_ALREADY:  # "removal is already in progress"
                    raise
                self._api.wait(sandbox, condition="removed")

    def find(self) -> list[Found]:
        with _translated():
            listed = self._api.containers(all=True, filters=self._filters)
        return [
            Found(one["Id"], one["Names"][0].lstrip("/"), one["Labels"], one["State"] == "running") for one in listed
        ]

    def endings(self) -> Iterator[str]:
        filters = {**self._filters, "type": ["container"], "event": ["die", "destroy"]}
        with _translated():
            stream = self._api.events(decode=True, filters=filters)
            yield ""
            for event in stream:
                yield str(event["Actor"]["ID"])

    def stop_argv(self, sandbox: str) -> list[str]:
        return [sys.executable, "-P", "-m", "workers.sandbox.docker.stop", sandbox]


def connect() -> docker.APIClient:
    """A client of this host's engine; the API version is negotiated: engines drop old ones."""
    base_url = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    return docker.APIClient(base_url=base_url, version="auto", timeout=TIMEOUT_SECONDS, num_pools=32)


def _image(name: str, inspected: dict[str, Any]) -> Image:
    digests = inspected.get("RepoDigests") or [inspected["Id"]]
    return Image(name, str(digests[0]))


def _how_to_get(image: str, why: str) -> str:
    if image.startswith("sandbox/"):
        profile = image.removeprefix("sandbox/").split(":")[0]
        return f"image {image} cannot be had: {why}; build it on this worker with `sandbox image build {profile}`"
    return f"image {image} cannot be had: {why}; check its name, or `docker pull` or `docker load` it on this worker"


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
    except (DockerException, requests.RequestException, OSError) as error:
        raise EngineUnavailable(f"the Docker Engine does not answer: {error}; start it, or set DOCKER_HOST") from error
