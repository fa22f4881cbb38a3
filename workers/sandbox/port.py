"""The port of a sandbox backend: what the runner may ask of an engine. `docker/` is one implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from orchestrator.models import Resources


class EngineUnavailable(Exception):
    """The engine does not answer; nothing is known of what was asked. The task is not at fault."""


class SandboxError(Exception):
    """The engine refused what was asked of it, and says why."""


class SandboxGone(SandboxError):
    """No such sandbox (any more)."""


class LogUnavailable(SandboxError):
    """The engine keeps no log of this sandbox that could be read."""


class ImageUnavailable(Exception):
    """The image is not on this host and cannot be had; the message says how to get it."""


LOG_ROTATES_BYTES = 64_000_000
"""The size at which the engine begins another file for its log of a sandbox; it keeps two."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory or file of the host inside the sandbox. Only the product's own directories, never others."""

    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class NoNetwork:
    """Nothing but a loopback of its own."""


@dataclass(frozen=True, slots=True)
class JoinedNetwork:
    """The network namespace of another sandbox, given by its id, which must run: the two share one loopback."""

    sandbox: str


@dataclass(frozen=True, slots=True)
class NamedNetwork:
    """A network of the engine, by its name. Host names are asked of `resolvers` (addresses) and of nobody else."""

    name: str
    resolvers: tuple[str, ...]


Network = NoNetwork | JoinedNetwork | NamedNetwork


@dataclass(frozen=True, slots=True)
class BridgeSpec:
    """A network for `NamedNetwork`: with a way out over the host's `interface`, none between those in it, no IPv6."""

    name: str
    interface: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """All that decides how a sandbox is made. Without `network` it has nothing but its own loopback.

    `image` is a name or an id. `volumes` are the places that it declares as volumes: each is made a temporary
    one of `tmp_bytes`, because a volume of the engine's is a place on the host without a limit.
    """

    name: str
    image: str
    labels: Mapping[str, str]
    mounts: tuple[Mount, ...]
    cpus: float
    memory_bytes: int
    pids: int
    tmp_bytes: int
    user_id: int
    writable_root: bool = False
    runtime: str | None = None
    log_driver: str = "json-file"
    environment: Mapping[str, str] = field(default_factory=dict)
    network: Network = NoNetwork()
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Image:
    """An image as the engine knows it. `digest` is the registry's, or the image id for one made here.

    `id` is what a sandbox is made from: a name may mean another image a moment later.
    """

    name: str
    digest: str
    id: str
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime that the engine knows.

    `limits`: it puts a sandbox's processes under the limits of the engine. `loopback`: what listens on loopback in
    the sandbox's network namespace, as the host sees it, is reached from inside.
    """

    limits: bool
    loopback: bool


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What the engine can do, and how it is set up.

    `first_user_id`, `first_group_id`: who root in a sandbox is on the host; not 0 where the engine maps ids.
    `swap_limited`: a limit of memory holds for memory and swap together.
    """

    runtimes: Mapping[str, Runtime]
    default_runtime: str
    first_user_id: int = 0
    first_group_id: int = 0
    swap_limited: bool = True


@dataclass(frozen=True, slots=True)
class Inspection:
    """A sandbox at this moment. `mismatches` name each limit that is not what the spec asked for.

    `finished_at` is None while it has not run to an end. `runtime` is the one that the engine runs it by.
    """

    running: bool
    started: bool
    exit_code: int | None
    oom_killed: bool
    process_id: int | None
    finished_at: datetime | None = None
    mismatches: tuple[str, ...] = ()
    runtime: str | None = None


@dataclass(frozen=True, slots=True)
class SandboxUse:
    """What a sandbox uses: cpu time since it was started, and memory now, without page cache that can be dropped."""

    cpu_seconds: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Found:
    """A sandbox of this installation and worker that exists on the engine."""

    id: str
    name: str
    labels: Mapping[str, str]
    running: bool


class SandboxBackend(Protocol):
    """Order of calls: `pull` → `create` → `attach` → `start` → `inspect` … `kill` → `destroy`.

    Thread-safe. Every method may raise `EngineUnavailable`; each engine call has a timeout (60 s).
    `destroy` is idempotent and safe after any failed step.
    """

    def ping(self) -> None:
        """Raise `EngineUnavailable` unless the engine answers, within ten seconds."""

    def survives_restart(self) -> bool:
        """Tell whether sandboxes outlive a restart of the engine; when not, an end around it means nothing."""

    def host_size(self) -> Resources:
        """The engine host's cpus and memory; `disk_bytes` is 0: the worker knows its disk."""

    def facts(self) -> EngineFacts:
        """What the engine can do now. Raise `SandboxError` when it is set up in a way that cannot be worked with."""

    def pull(self, image: str, *, interrupted: Callable[[], bool], say: Callable[[str], None]) -> Image:
        """Return the image, fetched when it is not here; `say` is told of the progress. Raise `ImageUnavailable`.

        Stops early, raising `ImageUnavailable`, when `interrupted()` turns true.
        """

    def sees(self, directory: Path) -> bool:
        """Tell whether the engine has this directory, which the caller has just made, under the same path."""

    def create(self, spec: SandboxSpec) -> str:
        """Make a sandbox whose main process waits at its gate; return its id. Raise `SandboxError`."""

    def attach(self, sandbox: str) -> int:
        """Return a descriptor that carries stdin in and the multiplexed output out; the caller closes it."""

    def follow_log(self, sandbox: str) -> int:
        """Return a socket's descriptor that carries the engine's log of the sandbox; the caller closes it.

        It holds frames as an attach stream does, from the very first byte that the log still has, follows a sandbox
        that runs, and ends with it (an unfinished last line may then be missing: read again). Nothing can be sent.
        Raise `SandboxGone`, `LogUnavailable`.
        """

    def start(self, sandbox: str) -> None:
        """Start it. Raise `SandboxError` when its image cannot run the launcher."""

    def inspect(self, sandbox: str, spec: SandboxSpec | None = None) -> Inspection:
        """Look; with `spec`, compare what is applied. Raise `SandboxGone`."""

    def written_bytes(self, sandbox: str) -> int:
        """What the sandbox has written into its own root file system, beside its mounts. Raise `SandboxGone`.

        The engine looks at every file for it: not cheap.
        """

    def used(self, sandbox: str) -> SandboxUse | None:
        """What it uses now; None when it does not run, or is not counted. Raise `SandboxGone`.

        One call of the engine: for a worker that does not see the kernel's own counts.
        """

    def kill(self, sandbox: str, signal: str) -> None:
        """Send a signal to the main process; harmless when it has ended. Raise `SandboxGone`."""

    def killed_from_outside(self, sandbox: str) -> bool:
        """Tell whether somebody had the engine kill it in the last minute, as far as the engine remembers."""

    def destroy(self, sandbox: str) -> None:
        """Kill and remove it; return only when it is gone. Harmless when it is gone already."""

    def find(self) -> list[Found]:
        """All sandboxes of this installation and worker."""

    def endings(self) -> Iterator[str]:
        """Block, and yield the id of each sandbox that ends; the first item is '' once subscribed.

        Raises `EngineUnavailable` when the subscription breaks: subscribe again, then inspect all.
        """

    def make_bridge(self, spec: BridgeSpec) -> None:
        """Make the network, unless it is there as asked for. Raise `SandboxError`, also while another one of its
        name is in use."""

    def bridge_faults(self, spec: BridgeSpec) -> tuple[str, ...]:
        """Name what of the network is not as asked for; nothing when it is there and is."""

    def remove_bridge(self, name: str) -> None:
        """Remove the network; harmless when there is none. Raise `SandboxError` while a running sandbox uses it."""

    def stop_argv(self, sandbox: str) -> list[str]:
        """A command that stops the sandbox without this process: for the keeper. Exit 0 = it runs no more, and cannot
        be started: one that never was is removed."""
