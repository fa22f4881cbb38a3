"""The real server as a process, and readers with sockets of their own."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.integration.api.waiting import DEADLINE_SECONDS, eventually
from tests.servers.process import free_port


@dataclass
class LiveServer:
    """`sandbox api` on a data directory. Of settings, only `environment` is in its environment.

    `authority`: the certificate that vouches for it, where it serves TLS. `program`: what Python runs, with the
    arguments of `sandbox`.
    """

    data_dir: Path
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    authority: Path | None = None
    program: tuple[str, ...] = ("-m", "orchestrator.cli")

    @property
    def url(self) -> str:
        return f"{'https' if self.authority else 'http'}://127.0.0.1:{self.port}"

    @property
    def home(self) -> Path:
        return self.data_dir.parent / "home"

    @property
    def log(self) -> str:
        return (self.data_dir.parent / "api.log").read_text()

    def start(self) -> None:
        argv = [sys.executable, *self.program, "api", "--port", str(self.port)]
        argv += ["--data-dir", str(self.data_dir), *self.options]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("SANDBOX_", "XDG_"))}
        # The simulated worker sends no heartbeats.
        environment |= {"HOME": str(self.home), "SANDBOX_LEASE_SECONDS": "3600", **self.environment}
        self.home.mkdir(exist_ok=True)
        with (self.data_dir.parent / "api.log").open("ab") as log:
            self.process = subprocess.Popen(
                argv, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        eventually("the server answers", self.answers)

    def answers(self) -> bool:
        assert self.process
        assert self.process.poll() is None, self.log
        try:
            verified = ssl.create_default_context(cafile=self.authority) if self.authority else True
            return httpx.get(f"{self.url}/api/v1/health/live", timeout=5, verify=verified).status_code == 200
        except httpx.HTTPError:
            return False

    def workers(self) -> list[int]:
        """The process ids that gunicorn's arbiter has started."""
        assert self.process
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(child) for child in children.split()]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal to the process that was started, and to no other; return the exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(number)
        code = self.process.wait(DEADLINE_SECONDS)
        self.process = None
        return code


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return False
    return state != "Z"


class Exchange:
    """One request on a socket of its own, HTTP/1.0: the answer ends with the connection."""

    def __init__(self, server: LiveServer, request: str, *, receive_bytes: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(DEADLINE_SECONDS)
        self.socket.connect(("127.0.0.1", server.port))
        self.socket.sendall(f"{request} HTTP/1.0\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
        self.received = b""
        self.ended = False

    @property
    def status(self) -> int:
        return int(self.received.split(b" ", 2)[1])

    @property
    def body(self) -> bytes:
        return self.received.partition(b"\r\n\r\n")[2]

    def close(self) -> None:
        self.socket.close()


def read_to_the_end(exchanges: Iterable[Exchange], seconds: float = DEADLINE_SECONDS) -> None:
    """Read all of them at once until each answer has ended."""
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for exchange in exchanges:
            selector.register(exchange.socket, selectors.EVENT_READ, exchange)
        while selector.get_map():
            assert time.monotonic() < deadline, f"{len(selector.get_map())} answers have not ended in {seconds} s"
            for key, _ in selector.select(1):
                data = key.data.socket.recv(1 << 16)
                key.data.received += data
                if not data:
                    key.data.ended = True
                    selector.unregister(key.fileobj)
