"""An "internet" for sandboxes with `network_mode: full`: a network namespace behind this host, with test addresses.

It holds a server on each address it is given and a DNS server that knows one name. Nothing real is addressed: the
routes lead into the namespace for as long as it lives, and go with it.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import missing

SITE = "203.0.113.80"
"""A public address (RFC 5737)."""
LAN = "10.213.77.80"
RESOLVER = "10.213.77.53"
"""In a private range, as an operator's own mostly is."""
LINK_LOCAL = "169.254.213.77"
CARRIER = "100.99.213.77"
NAME = "site.test"
GREETING = b"REACHED\n"
PORT = 8080
LOCK = Path("/tmp/sandbox-test-internet.lock")

_SERVER = """
import socket, sys, threading
name, site, resolver, port = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
print("up", flush=True)
sys.stdin.readline()  # the addresses are there
def serve():
    server = socket.create_server(("0.0.0.0", port))
    while True:
        client, _ = server.accept()
        client.sendall(b"REACHED\\n")
        client.close()
threading.Thread(target=serve, daemon=True).start()
dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
dns.bind((resolver, 53))
print("serving", flush=True)
wanted = b"".join(bytes([len(one)]) + one.encode() for one in name.split(".")) + b"\\0"
while True:
    query, client = dns.recvfrom(2048)
    question = query[12:query.index(b"\\0", 12) + 5]
    known = question.lower().startswith(wanted) and question[-4:-2] == b"\\0\\1"
    head = query[:2] + b"\\x81\\x80" + b"\\0\\1" + (b"\\0\\1" if known else b"\\0\\0") + b"\\0\\0\\0\\0"
    answer = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4" + socket.inet_aton(site) if known else b""
    dns.sendto(head + question + answer, client)
"""


@dataclass(frozen=True)
class FakeInternet:
    """What is served, on `PORT`; all of it can be reached from this host."""

    site: str = SITE
    never_public: tuple[str, ...] = (LAN, LINK_LOCAL, CARRIER)
    resolver: str = RESOLVER


@contextmanager
def fake_internet() -> Iterator[FakeInternet]:
    """One at a time on a machine; its addresses are fixed."""
    if os.geteuid() != 0:
        missing("a network namespace", "run the tests as root")
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        argv = ["unshare", "--net", sys.executable, "-c", _SERVER, NAME, SITE, RESOLVER, str(PORT)]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "up\n"
            _connect(process.pid)
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "serving\n"
            yield FakeInternet()
        finally:
            process.kill()
            process.communicate()
            with suppress(subprocess.CalledProcessError):  # mostly gone with its namespace already
                _ip("link", "delete", _interface(process.pid))


def _connect(process: int) -> None:
    link, inside = _interface(process), ["nsenter", f"--target={process}", "--net"]
    _ip("link", "add", link, "type", "veth", "peer", "name", "uplink", "netns", str(process))
    _ip("address", "add", "203.0.113.1/24", "dev", link)
    _ip("link", "set", link, "up")
    _ip("link", "set", "lo", "up", inside=inside)
    _ip("address", "add", f"{SITE}/24", "dev", "uplink", inside=inside)
    for one in (LAN, RESOLVER, LINK_LOCAL, CARRIER):
        _ip("address", "add", f"{one}/32", "dev", "uplink", inside=inside)
    _ip("link", "set", "uplink", "up", inside=inside)
    _ip("route", "add", "default", "via", "203.0.113.1", inside=inside)
    for one in (LAN, RESOLVER, LINK_LOCAL, CARRIER):
        _ip("route", "add", f"{one}/32", "via", SITE)


def _interface(process: int) -> str:
    return f"sbtest{process}"


def _ip(*words: str, inside: list[str] | None = None) -> None:
    subprocess.run([*(inside or []), "ip", *words], check=True, capture_output=True)
