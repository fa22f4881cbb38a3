"""A way into a sandbox's loopback for a worker that cannot enter network namespaces: a second sandbox that joins it.

The sidecar is a sandbox of our own image and of the same hardened profile, in the network namespace of the one it
serves. It listens on ports there and passes bytes on to a Unix socket for each, which lies in a directory that
only it has mounted, and at whose other end the worker listens. When the worker dies, the socket is dead: closed.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path

from workers.demux import Demultiplexer
from workers.egress.listener import MAX_CONNECTIONS
from workers.egress.namespace import PROXY_PORT, EgressUnavailable
from workers.network import forwarder
from workers.sandbox import launcher
from workers.sandbox.labels import SERVES
from workers.sandbox.port import JoinedNetwork, Mount, SandboxBackend, SandboxSpec

TARGET = "/egress"
PIDS = 128
MEMORY_BYTES = 96 << 20
CPUS = 1.0
TMP_BYTES = 1 << 20
START_SECONDS = 30.0
_LOADER = """\
import sys, types
relay = sys.modules[{name!r}] = types.ModuleType({name!r})
exec({relay!r}, relay.__dict__)
exec({forwarding!r})
"""


def sidecar_spec(spec: SandboxSpec, sandbox: str, directory: Path) -> SandboxSpec:
    """What of `spec` (name, image, labels, user) is the sidecar's own, and what every sidecar is given (pure)."""
    return replace(
        spec,
        labels={**spec.labels, SERVES: sandbox},
        mounts=(Mount(directory, TARGET, read_only=True),),
        cpus=CPUS,
        memory_bytes=MEMORY_BYTES,
        pids=PIDS,
        tmp_bytes=TMP_BYTES,
        writable_root=False,
        runtime=None,
        log_driver="none",
        environment={},
        network=JoinedNetwork(sandbox),
    )


def socket_name(port: int) -> str:
    """The socket behind a port; the proxy's has the name that workers of the version before know."""
    return "s" if port == PROXY_PORT else f"s{port}"


def start_sidecar(backend: SandboxBackend, spec: SandboxSpec, ports: Sequence[int] = (PROXY_PORT,)) -> str:
    """Start the sidecar of `spec` (see `sidecar_spec`) for these ports; return its id once it listens.

    Raises `EgressUnavailable`, and what the backend raises; nothing is left then.
    """
    sidecar = backend.create(spec)
    try:
        stream = backend.attach(sidecar)
        try:
            backend.start(sidecar)
            if faults := backend.inspect(sidecar, spec).mismatches:
                raise EgressUnavailable(f"the sidecar of a sandbox is not as asked for: {'; '.join(faults)}")
            doors = [word for port in ports for word in (str(port), f"{TARGET}/{socket_name(port)}")]
            command = ["python3", "-I", "-c", program(), *doors]
            os.write(stream, launcher.gate_script(command, {}, "/"))
            _wait_ready(stream, ports)
        finally:
            os.close(stream)
    except BaseException:
        backend.destroy(sidecar)
        raise
    return sidecar


def listening_sockets(directory: Path, owner_id: int, ports: Sequence[int]) -> list[socket.socket]:
    """Return the listening ends of the Unix sockets in `directory`, which is made; those before them are replaced.

    The sidecar's user, `owner_id` on this host, may connect to them and change nothing there. Raises `OSError`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o711)
    holder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with ExitStack() as undo:
        undo.callback(os.close, holder)
        with ExitStack() as made:
            servers = [made.enter_context(_listening(holder, socket_name(port), owner_id)) for port in ports]
            made.pop_all()
    return servers


def _listening(holder: int, name: str, owner_id: int) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path = f"/proc/self/fd/{holder}/{name}"  # an address holds 107 characters, a path may be longer
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=holder)
        server.bind(path)
        os.chmod(name, 0o600, dir_fd=holder)
        if os.geteuid() == 0:
            os.chown(name, owner_id, owner_id, dir_fd=holder)
        server.listen(MAX_CONNECTIONS)
    except BaseException:
        server.close()
        raise
    return server


@cache
def program() -> str:
    """What a sidecar runs, where there is no package `workers`: the forwarder, and before it what it imports of us."""
    relay = (resources.files("workers.egress") / "relay.py").read_text(encoding="utf-8")
    forwarding = (resources.files("workers.network") / "forwarder.py").read_text(encoding="utf-8")
    return _LOADER.format(name="workers.egress.relay", relay=relay, forwarding=forwarding)


def _wait_ready(stream: int, ports: Sequence[int]) -> None:
    """Read what the sidecar says until it listens. Raises `EgressUnavailable`."""
    said, demultiplexer, deadline = b"", Demultiplexer(), time.monotonic() + START_SECONDS
    waiting = select.poll()  # `select` fails beyond descriptor 1023
    waiting.register(stream, select.POLLIN)
    while forwarder.READY.encode() not in said:
        ready = waiting.poll(max(0.0, deadline - time.monotonic()) * 1000)
        received = os.read(stream, 1 << 16) if ready else b""
        if not received:
            words = said.decode(errors="replace").strip()[-300:] or "it said nothing"
            raise EgressUnavailable(
                f"the sidecar of a sandbox does not listen on port {' and '.join(map(str, ports))}: {words}; another "
                "program may listen there already, or the image of profile basic lacks python3"
            )
        for _, data in demultiplexer.feed(received):
            said += data
