"""The way out of a sandbox: what one stream carries, and what a request over HTTPS costs more than without it.

The listener is this process's, as it is a worker's; servers run in another one. Beside it: the same client in a
container on the host's own network. Both take turns, so that a busy machine is as busy for one as for the other.
"""

from __future__ import annotations

import ipaddress
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.stack import BenchmarkFailed
from tests.benchmarks.table import Row, from_samples
from tests.integration.sandbox.git_server import make_certificate
from workers.egress import EgressReport, Policy, proxy
from workers.egress.namespace import listen_inside
from workers.egress.policy import Entry, Way

NAME = "bench.test"

_SERVER = """
import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
def bulk(one):
    size, block = int(one.recv(100)), bytes(1 << 20)
    while size > 0:
        one.sendall(block[:size])
        size -= len(block)
def page(one):
    with context.wrap_socket(one, server_side=True) as inside:
        inside.recv(65536)
        inside.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok")
def serve(server, answer):
    def one(client):
        try:
            with client: answer(client)
        except OSError: pass
    while True:
        threading.Thread(target=one, args=(server.accept()[0],), daemon=True).start()
servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
for server, answer in zip(servers, (bulk, page)):
    threading.Thread(target=serve, args=(server, answer), daemon=True).start()
print(*(one.getsockname()[1] for one in servers), flush=True)
sys.stdin.read()
"""

_CLIENT = """
import json, socket, ssl, sys, time
proxied, bulk, page, size, requests = sys.argv[1] == "proxied", *map(int, sys.argv[2:])
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
def connect(port):
    if not proxied: return socket.create_connection(("127.0.0.1", port))
    one = socket.create_connection(("127.0.0.1", 3128))
    one.sendall(b"CONNECT bench.test:%d HTTP/1.1\\r\\n\\r\\n" % port)
    assert one.recv(100).startswith(b"HTTP/1.1 200")
    return one
def stream():
    with connect(bulk) as one:
        began, left, buffer = time.perf_counter(), size, bytearray(1 << 20)
        one.sendall(b"%d" % size)
        while left > 0:
            got = one.recv_into(buffer)
            assert got
            left -= got
        return time.perf_counter() - began
def request():
    began = time.perf_counter()
    with connect(page) as one, context.wrap_socket(one, server_hostname="bench.test") as inside:
        inside.sendall(b"GET / HTTP/1.1\\r\\nHost: bench.test\\r\\n\\r\\n")
        while inside.recv(65536): pass
    return (time.perf_counter() - began) * 1000
request()
print(json.dumps([stream(), [request() for _ in range(requests)]]))
"""


@dataclass
class Client:
    """A container with the client, and what it measured."""

    container: str
    how: str
    megabytes_per_second: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)

    def measure(self, ports: Sequence[int], size_bytes: int, requests: int) -> None:
        numbers = [str(one) for one in (*ports, size_bytes, requests)]
        argv = ["docker", "exec", self.container, "python3", "-c", _CLIENT, self.how, *numbers]
        ran = subprocess.run(argv, capture_output=True, check=False, text=True)
        if ran.returncode != 0:
            raise BenchmarkFailed(f"the client in the sandbox failed: {ran.stderr[-500:]}")
        seconds, milliseconds = json.loads(ran.stdout)
        self.megabytes_per_second.append(size_bytes / seconds / 1e6)
        self.milliseconds += milliseconds


def way_out(image: str, rounds: int = 5, size_bytes: int = 500_000_000, requests: int = 30) -> list[Row]:
    """In each round one stream of `size_bytes` down, and `requests` requests, each with a handshake of its own."""
    with ExitStack() as undo:
        ports = undo.enter_context(_servers())
        direct = Client(undo.enter_context(_container(image, "host")), "direct")
        proxied = Client(undo.enter_context(_container(image, "none")), "proxied")
        [server] = listen_inside(_process_of(proxied.container))
        listener = proxy(server, _policy(*ports), EgressReport())
        undo.callback(listener.close)
        for _ in range(rounds):
            direct.measure(ports, size_bytes, requests)
            proxied.measure(ports, size_bytes, requests)
    return [
        Row(
            f"one stream of {size_bytes / 1e6:.0f} MB into an outbound sandbox",
            statistics.median(proxied.megabytes_per_second),
            "MB/s",
            rounds,
            beside="host's network",
            limit=statistics.median(direct.megabytes_per_second),
        ),
        from_samples(
            "one request over HTTPS from an outbound sandbox",
            proxied.milliseconds,
            beside="host's network",
            limits=direct.milliseconds,
        ),
    ]


def _policy(bulk: int, page: int) -> Policy:
    entry = Entry(NAME, ((bulk, Way.ANY), (page, Way.TLS)))
    loopback = ipaddress.ip_network("127.0.0.0/8")
    return Policy((entry,), (loopback,), lookup=lambda _host, _port: ["127.0.0.1"])


@contextmanager
def _servers() -> Iterator[tuple[int, int]]:
    with tempfile.TemporaryDirectory() as directory:
        files = [str(one) for one in make_certificate(Path(directory))]
        argv = [sys.executable, "-c", _SERVER, *files]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            bulk, page = map(int, process.stdout.readline().split())
            try:
                yield bulk, page
            finally:
                process.kill()


@contextmanager
def _container(image: str, network: str) -> Iterator[str]:
    argv = ["docker", "run", "--detach", "--rm", "--network", network, image, "sleep", "3600"]
    container = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield container
    finally:
        subprocess.run(["docker", "rm", "--force", container], check=True, capture_output=True)


def _process_of(container: str) -> int:
    argv = ["docker", "inspect", "--format", "{{.State.Pid}}", container]
    return int(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
