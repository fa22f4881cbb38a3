"""The way out of a sandbox that has no network: a listener inside its network namespace that passes on
connections to named hosts only (isolation-and-faults.md §1). In this version git helpers use it.

The listener's socket is made in the sandbox's namespace by a throw-away thread (`setns` is per thread) and
stays there; dials are made from the host's. When the worker dies, the listener dies: it fails closed.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from workers.egress_policy import Denied, Policy
from workers.egress_request import Forward, Tunnel, parse

__all__ = ["Denied", "EgressReport", "EgressUnavailable", "Policy", "listener"]

log = logging.getLogger(__name__)

ADDRESS = ("127.0.0.1", 3128)
CLONE_NEWNET = 0x40000000
HEAD_BYTES = 16 << 10
HEAD_SECONDS = 15
DIAL_SECONDS = 10
IDLE_SECONDS = 120
MAX_CONNECTIONS = 64
BUFFER_BYTES = 64 << 10
ACCEPT_RETRY_SECONDS = 0.1
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class EgressUnavailable(Exception):
    """This worker cannot open a way out: it needs root on the engine's host."""


@dataclass
class EgressReport:
    """What did not get through, for the log of the task: refused by the policy, or not reached."""

    denied: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


@contextmanager
def listener(process_id: int, policy: Policy) -> Iterator[EgressReport]:
    """Serve the proxy inside the network namespace of `process_id`. Raises `EgressUnavailable`."""
    server, report = _socket_in_namespace(process_id), EgressReport()
    thread = threading.Thread(target=_serve, args=(server, policy, report), name=f"egress-{process_id}", daemon=True)
    thread.start()
    try:
        yield report
    finally:
        # close() alone leaves a thread in accept() with an open listener (core-path.md §3).
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def _socket_in_namespace(process_id: int) -> socket.socket:
    made: list[socket.socket | OSError] = []

    def enter() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            namespace = os.open(f"/proc/{process_id}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                # An engine in another process-id namespace names other processes than this worker sees.
                if os.path.samestat(os.fstat(namespace), Path("/proc/thread-self/ns/net").stat()):
                    raise OSError(f"process {process_id} is not in a sandbox's network namespace")
                if libc.setns(namespace, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            finally:
                os.close(namespace)
            made.append(socket.create_server(ADDRESS, backlog=MAX_CONNECTIONS))
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


def _serve(server: socket.socket, policy: Policy, report: EgressReport) -> None:
    slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
    while True:
        try:
            client, _ = server.accept()
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED}:
                return  # shut down
            time.sleep(ACCEPT_RETRY_SECONDS)
            continue
        if not slots.acquire(blocking=False):
            client.close()
            continue
        threading.Thread(target=_connection, args=(client, policy, report, slots), name="egress", daemon=True).start()


def _connection(client: socket.socket, policy: Policy, report: EgressReport, slots: threading.BoundedSemaphore) -> None:
    try:
        with client:
            _answer(client, policy, report)
    except OSError as error:
        log.info("egress connection ended", extra={"error": str(error)})
    finally:
        slots.release()


def _answer(client: socket.socket, policy: Policy, report: EgressReport) -> None:
    """Serve one connection: one request, whatever follows it."""
    try:
        request, early = _read_request(client)
        addresses = policy.resolve(request.host, request.port)
    except Denied as error:
        log.warning("egress denied", extra={"why": str(error)})
        _refuse(client, "403 Forbidden", str(error), report.denied)
        return
    except socket.gaierror as error:
        _refuse(client, "502 Bad Gateway", f"{request.host} cannot be resolved: {error.strerror}", report.failed)
        return
    try:
        remote = _dial(addresses)
    except OSError as error:
        words = f"{request.host}:{request.port} cannot be reached: {error.strerror or error}"
        _refuse(client, "502 Bad Gateway", words, report.failed)
        return
    with remote:
        if isinstance(request, Tunnel):
            client.sendall(ESTABLISHED)
            _relay(client, remote)
        else:
            _forward(client, remote, request, early)


def _refuse(client: socket.socket, status: str, words: str, noted: list[str]) -> None:
    if words not in noted:
        noted.append(words)
    body = words.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    client.sendall(head.encode() + body)


def _read_request(client: socket.socket) -> tuple[Tunnel | Forward, bytes]:
    """Return the request and what came of its body already. Raises `Denied`, `TimeoutError`."""
    received, deadline = b"", time.monotonic() + HEAD_SECONDS
    while b"\r\n\r\n" not in received:
        client.settimeout(max(0.001, deadline - time.monotonic()))
        more = client.recv(4096)
        if not more or len(received) + len(more) > HEAD_BYTES:
            raise Denied("the head of a request has no end")
        received += more
    head, _, early = received.partition(b"\r\n\r\n")
    return parse(head), early


def _dial(addresses: list[tuple[str, int]]) -> socket.socket:
    """Connect to the first address that answers: a host may have an IPv6 address and this machine no IPv6."""
    for address in addresses[:-1]:
        with suppress(OSError):
            return socket.create_connection(address, timeout=DIAL_SECONDS)
    return socket.create_connection(addresses[-1], timeout=DIAL_SECONDS)


def _forward(client: socket.socket, remote: socket.socket, request: Forward, early: bytes) -> None:
    """Pass one request on and its answer back. Nothing that comes after the declared body is passed on."""
    for end in (client, remote):
        end.settimeout(IDLE_SECONDS)
    remote.sendall(request.head)
    left, data = request.body_bytes, early
    while left:
        data = data or client.recv(BUFFER_BYTES)
        if not data:
            return
        remote.sendall(data[:left])
        left, data = left - len(data[:left]), b""
    while remote in _readable({client, remote}):
        answer = remote.recv(BUFFER_BYTES)
        if not answer:
            return
        client.sendall(answer)


def _relay(client: socket.socket, remote: socket.socket) -> None:
    other = {client: remote, remote: client}
    for end in other:
        end.settimeout(IDLE_SECONDS)
    open_ends = {client, remote}
    while open_ends:
        ready = _readable(open_ends)
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


def _readable(ends: set[socket.socket]) -> list[socket.socket]:
    """Wait for bytes or an end; none when nothing comes for long. `select` fails beyond descriptor 1023, this not."""
    by_number = {end.fileno(): end for end in ends}
    waiting = select.poll()
    for number in by_number:
        waiting.register(number, select.POLLIN)
    return [by_number[number] for number, _ in waiting.poll(IDLE_SECONDS * 1000)]
