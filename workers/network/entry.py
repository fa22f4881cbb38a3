"""How a listener of this worker gets into a sandbox that has no network: by itself, or by a sidecar.

Either way the sandbox is made without a network, and a socket on its own loopback is all it has.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from workers.egress.namespace import PROXY_PORT, EgressUnavailable, listen_inside
from workers.network.sidecar import listening_sockets, sidecar_spec, start_sidecar
from workers.sandbox.labels import SERVES
from workers.sandbox.port import Found, SandboxBackend, SandboxGone, SandboxSpec


@dataclass(frozen=True)
class Entrance:
    """Where listeners of one sandbox are to be: which entry, sandbox and ports, and what a sidecar would be made of.

    `directory` is its own. `sidecar` gives a fresh name, our own image, the labels of the attempt with the role
    `egress`, and the sandboxes' user; nothing else of it counts. `owner` is that user's id on this host.
    """

    entry: Entry
    sandbox: str
    directory: Path
    sidecar: Callable[[], SandboxSpec]
    owner: Callable[[], int]
    ports: Sequence[int] = (PROXY_PORT,)

    def open(self) -> list[socket.socket]:
        """Return a socket for each of `ports` that listens for what the running sandbox sends there on its loopback.

        May be opened again after a worker's death: what is left is used, or replaced. Raises `SandboxGone`,
        `EgressUnavailable`, and what the backend raises.
        """
        return self.entry.open(self)

    def stands(self) -> bool:
        """Whether what `open` left beside the sockets is still there. Raises what the backend raises."""
        return self.entry.stands(self.sandbox)

    def close(self) -> None:
        """Remove what `open` left beside the sockets, which their holder closes; harmless when there is nothing.

        Raises what the backend raises.
        """
        self.entry.close(self.sandbox)


class Entry(Protocol):
    """A way in, the same for all sandboxes of a worker. Thread-safe. `mechanism` is what `applied` tells."""

    mechanism: str

    def open(self, entrance: Entrance) -> list[socket.socket]: ...

    def stands(self, sandbox: str) -> bool: ...

    def close(self, sandbox: str) -> None: ...


def choose_entry(backend: SandboxBackend, no_namespaces: str | None) -> Entry:
    """The listener itself, unless this worker cannot enter namespaces and `no_namespaces` says why."""
    return NamespaceEntry(backend) if no_namespaces is None else SidecarEntry(backend)


@dataclass(frozen=True)
class NamespaceEntry:
    """Enters the sandbox's network namespace: root on the engine's host (isolation-and-faults.md §1.1)."""

    backend: SandboxBackend
    mechanism = "the worker's listener in the sandbox's network namespace"

    def open(self, entrance: Entrance) -> list[socket.socket]:
        sandbox = entrance.sandbox
        process = self.backend.inspect(sandbox).process_id
        if process is None:
            raise SandboxGone(f"sandbox {sandbox} does not run any more")
        return listen_inside(process, lambda: self.backend.inspect(sandbox).process_id == process, entrance.ports)

    def stands(self, sandbox: str) -> bool:  # noqa: ARG002 - the sockets are all
        return True

    def close(self, sandbox: str) -> None:
        """Nothing is left: the sockets were all."""


@dataclass(frozen=True)
class SidecarEntry:
    """Starts a sidecar: for a worker that is not root, or sees nothing of the engine's processes."""

    backend: SandboxBackend
    mechanism = "a sidecar in the sandbox's network namespace"

    def open(self, entrance: Entrance) -> list[socket.socket]:
        sandbox, spec, owner = entrance.sandbox, entrance.sidecar(), entrance.owner()
        if not self.backend.inspect(sandbox).running:
            raise SandboxGone(f"sandbox {sandbox} does not run any more")
        try:
            servers = listening_sockets(entrance.directory, owner, entrance.ports)
        except OSError as error:
            raise EgressUnavailable(f"no socket can be made in {entrance.directory}: {error}; correct that") from error
        try:
            if not self.stands(sandbox):
                self.close(sandbox)
                start_sidecar(self.backend, sidecar_spec(spec, sandbox, entrance.directory), entrance.ports)
        except BaseException:
            for server in servers:
                server.close()
            raise
        return servers

    def stands(self, sandbox: str) -> bool:
        return any(one.running for one in self._sidecars(sandbox))

    def close(self, sandbox: str) -> None:
        for one in self._sidecars(sandbox):
            self.backend.destroy(one.id)

    def _sidecars(self, sandbox: str) -> list[Found]:
        return [one for one in self.backend.find() if one.labels.get(SERVES) == sandbox]
