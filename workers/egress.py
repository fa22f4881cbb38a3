"""The way out of a sandbox that has no network: a listener inside its network namespace that passes on
connections to named hosts only (isolation-and-faults.md §1). In this version git helpers use it.

The listener's socket is made in the sandbox's namespace by a throw-away thread (`setns` is per thread) and
stays there; dials are made from the host's. When the worker dies, the listener dies: it fails closed.
"""

from __future__ import annotations

import ctypes
import ipaddress
import logging
import os
import re
import select
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

log = logging.getLogger(__name__)

ADDRESS = ("127.0.0.1", 3128)
CLONE_NEWNET = 0x40000000
HEAD_BYTES = 16 << 10
HEAD_SECONDS = 15
DIAL_SECONDS = 10
IDLE_SECONDS = 120
MAX_CONNECTIONS = 64
BUFFER_BYTES = 64 << 10
CONNECT = re.compile(rb"CONNECT ([A-Za-z0-9.-]{1,253}):([0-9]{1,5}) HTTP/1\.[01]\r\n")

ALWAYS_DENIED = tuple(
    ipaddress.ip_network(one)
    for one in (
        "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "100.100.100.200/32", "168.63.129.16/32",
        "192.0.0.0/24", "::/128", "::1/128", "fe80::/10", "ff00::/8", "fd00:ec2::/32", "fd20:ce::254/128",
        "64:ff9b::/96", "2002::/16", "2001::/32", "::ffff:0:0/96",
    )
)  # fmt: skip
"""Loopback, link-local, multicast, metadata services, and IPv6 spellings of IPv4. `is_global` is not enough."""
PRIVATE = tuple(
    ipaddress.ip_network(one) for one in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)


class EgressUnavailable(Exception):
    """This worker cannot open a way out: it needs root on the engine's host."""


class Denied(Exception):
    """A connection that the policy does not allow; the message says why."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Where a sandbox may connect to: exact hosts with their ports, and private ranges the operator allows."""

    hosts: frozenset[tuple[str, int]]
    allowed_private: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    @classmethod
    def for_url(cls, url: str, private_cidrs: Sequence[str]) -> Policy:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}[parts.scheme]
        networks = tuple(ipaddress.ip_network(one) for one in private_cidrs)
        return cls(frozenset({((parts.hostname or "").rstrip(".").lower(), port)}), networks)

    def resolve(self, host: str, port: int) -> tuple[str, int]:
        """Return the one address to dial: resolved once, checked, and used as checked. Raise `Denied`."""
        host = host.rstrip(".").lower()
        if (host, port) not in self.hosts:
            raise Denied(f"{host}:{port} is not the repository's host")
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise Denied(f"{host} cannot be resolved: {error}") from error
        addresses = [str(one[4][0]) for one in found]
        for address in addresses:
            if not self._allowed(ipaddress.ip_address(address)):
                raise Denied(f"{host} resolves to {address}, which is not public; see SANDBOX_EGRESS_PRIVATE_CIDRS")
        return addresses[0], port

    def _allowed(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        if any(address in network for network in self.allowed_private):
            return True
        return not any(address in network for network in ALWAYS_DENIED + PRIVATE)


@contextmanager
def listener(process_id: int, policy: Policy) -> Iterator[None]:
    """Serve the proxy inside the network namespace of `process_id`. Raises `EgressUnavailable`."""
    server = _socket_in_namespace(process_id)
    thread = threading.Thread(target=_serve, args=(server, policy), name=f"egress-{process_id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        # close() alone leaves a thread in accept() with an open listener (core-path.md §3).
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()


def _socket_in_namespace(process_id: int) -> socket.socket:
    made: list[socket.socket | OSError] = []

    def enter() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            namespace = os.open(f"/proc/{process_id}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if libc.setns(namespace, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            finally:
                os.close(namespace)
            made.append(socket.create_server(ADDRESS, backlog=16))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=enter, name="setns")
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise EgressUnavailable(
            f"the way to the repository's host cannot be opened: {made[0]}; run the worker as root on the engine's host"
        )
    return made[0]


def _serve(server: socket.socket, policy: Policy) -> None:
    slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        if not slots.acquire(blocking=False):
            client.close()
            continue
        threading.Thread(target=_connection, args=(client, policy, slots), name="egress", daemon=True).start()


def _connection(client: socket.socket, policy: Policy, slots: threading.BoundedSemaphore) -> None:
    try:
        with client:
            client.settimeout(HEAD_SECONDS)
            try:
                remote = _dial(client, policy)
            except Denied as error:
                log.warning("egress denied", extra={"why": str(error)})
                client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            with remote:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                _relay(client, remote)
    except OSError as error:
        log.info("egress connection ended", extra={"error": str(error)})
    finally:
        slots.release()


def _dial(client: socket.socket, policy: Policy) -> socket.socket:
    head = b""
    while b"\r\n\r\n" not in head:
        received = client.recv(4096)
        if not received or len(head) + len(received) > HEAD_BYTES:
            raise Denied("the request has no end")
        head += received
    match = CONNECT.match(head)
    if match is None:
        raise Denied("only CONNECT is served")
    return socket.create_connection(policy.resolve(match[1].decode(), int(match[2])), timeout=DIAL_SECONDS)


def _relay(client: socket.socket, remote: socket.socket) -> None:
    other = {client: remote, remote: client}
    for end in other:
        end.settimeout(IDLE_SECONDS)
    open_ends = {client, remote}
    while open_ends:
        ready, _, _ = select.select(list(open_ends), [], [], IDLE_SECONDS)
        if not ready:
            return
        for source in ready:
            data = source.recv(BUFFER_BYTES)
            if data:
                other[source].sendall(data)
                continue
            open_ends.discard(source)
            with suppress(OSError):
                other[source].shutdown(socket.SHUT_WR)
