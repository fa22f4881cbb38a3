"""One connection of a sandbox to its proxy: one request, judged, and passed on or refused."""

from __future__ import annotations

import ipaddress
import socket
import time
from contextlib import suppress

from orchestrator.contacts import UNREADABLE, EgressRule
from workers.egress.client_hello import ClientHello, read_hello
from workers.egress.denial import Denied
from workers.egress.policy import Policy, Way, plain_name
from workers.egress.relay import BUFFER_BYTES, IDLE_SECONDS, relay
from workers.egress.report import Report
from workers.egress.request import Forward, Tunnel, parse, unreadable

HEAD_BYTES = 16 << 10
HEAD_END = b"\r\n\r\n"
HEAD_SECONDS = 15.0
"""To the end of a request's head, and again to the end of a ClientHello."""
DIAL_SECONDS = 10.0
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Unreachable(Exception):
    """The host is allowed and cannot be resolved or reached; the message says why."""


class Connection:
    """Served by one thread; `cut` may be called from any."""

    def __init__(self, client: socket.socket, policy: Policy, report: Report) -> None:
        self._client = client
        self._policy = policy
        self._report = report
        self._remote: socket.socket | None = None
        self._cut = False

    def cut(self) -> None:
        """End it, whatever it is at: a thread that waits for one of its ends wakes up."""
        self._cut = True
        for end in (self._client, self._remote):
            if end is not None:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        """One request, whatever follows it. Raises `OSError` when an end breaks off."""
        host, port = UNREADABLE, 0
        try:
            request, early = self._read_request()
            host, port = plain_name(request.host), request.port
            way = _admitted(self._policy, request)
            remote = self._reach(host, port)
        except Denied as error:
            self._report.on_denied(host, port, error)
            self._refuse("403 Forbidden", str(error))
            return
        except Unreachable as error:
            self._report.on_failed(host, port, str(error))
            self._refuse("502 Bad Gateway", str(error))
            return
        with remote:
            self._remote = remote
            if self._cut:
                return
            if isinstance(request, Forward):
                self._report.on_passed(host, port)
                self._forward(remote, request, early)
            else:
                self._tunnel(remote, request, early, named=way is Way.TLS)

    def _read_request(self) -> tuple[Tunnel | Forward, bytes]:
        """Return the request and what came behind its head already. Raises `Denied`."""
        received, deadline, end = bytearray(), time.monotonic() + HEAD_SECONDS, -1
        while end < 0:
            more = self._more(deadline)
            if not more or len(received) + len(more) > HEAD_BYTES:
                raise unreadable("the head of a request has no end")
            looked_at = max(0, len(received) - len(HEAD_END) + 1)
            received += more
            end = received.find(HEAD_END, looked_at)
        return parse(bytes(received[:end])), bytes(received[end + len(HEAD_END) :])

    def _more(self, deadline: float) -> bytes:
        """What comes next; nothing at the end, and when the time is over."""
        self._client.settimeout(max(0.001, deadline - time.monotonic()))
        with suppress(TimeoutError):
            return self._client.recv(4096)
        return b""

    def _reach(self, host: str, port: int) -> socket.socket:
        """Resolve once, and dial what was checked. Raises `Denied`, `Unreachable`."""
        try:
            addresses = self._policy.resolve(host, port)
        except OSError as error:
            raise Unreachable(f"{host} cannot be resolved: {error.strerror or error}") from error
        try:
            return _dial(addresses)
        except OSError as error:
            raise Unreachable(f"{host}:{port} cannot be reached: {error.strerror or error}") from error

    def _refuse(self, status: str, words: str) -> None:
        body = words.encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
        self._client.settimeout(HEAD_SECONDS)
        self._client.sendall(head.encode() + b"Connection: close\r\n\r\n" + body)

    def _tunnel(self, remote: socket.socket, request: Tunnel, early: bytes, *, named: bool) -> None:
        """After the 200 nothing of ours may appear in the tunnel: who is denied then is cut off."""
        host, port = plain_name(request.host), request.port
        self._client.sendall(ESTABLISHED)
        if named:
            try:
                early = self._checked_hello(early, host)
            except Denied as error:
                self._report.on_denied(host, port, error)
                return
        self._report.on_passed(host, port)
        remote.settimeout(IDLE_SECONDS)
        remote.sendall(early)
        self._report.on_bytes(len(early), 0)
        relay(self._client, remote, self._report.on_bytes)

    def _checked_hello(self, early: bytes, expected: str) -> bytes:
        """Return what begins the tunnel once it is known to name the host that was asked for. Raises `Denied`."""
        received, deadline = bytearray(early), time.monotonic() + HEAD_SECONDS
        while isinstance(found := read_hello(bytes(received)), int):
            while len(received) < found:
                more = self._more(deadline)
                if not more:
                    why = "the tunnel ended, or was silent, before its ClientHello was complete"
                    raise Denied(EgressRule.TLS, why, "speak TLS on this port")
                received += more
        _check_name(found, expected)
        return bytes(received)

    def _forward(self, remote: socket.socket, request: Forward, early: bytes) -> None:
        """Pass one request on and its answer back. Nothing that comes after the declared body is passed on."""
        for end in (self._client, remote):
            end.settimeout(IDLE_SECONDS)
        remote.sendall(request.head)
        self._report.on_bytes(len(request.head), 0)
        left, data = request.body_bytes, early
        while left:
            data = data or self._client.recv(BUFFER_BYTES)
            if not data:
                return
            sent = data[:left]
            remote.sendall(sent)
            self._report.on_bytes(len(sent), 0)
            left, data = left - len(sent), b""
        while got := remote.recv(BUFFER_BYTES):
            self._client.sendall(got)
            self._report.on_bytes(0, len(got))


def _admitted(policy: Policy, request: Tunnel | Forward) -> Way:
    """On a port that is for plain HTTP a tunnel would hide its `Host` from us; plain HTTP has no place on TLS's."""
    way = policy.admit(request.host, request.port)
    where = f"{request.host}:{request.port}"
    if isinstance(request, Tunnel) and way is Way.PLAIN:
        raise unreadable(f"CONNECT to {where} is not passed on: this port is for plain HTTP requests")
    if isinstance(request, Forward) and way is Way.TLS:
        why = f"a plain request to {where} is not passed on: this port is for TLS"
        raise Denied(EgressRule.TLS, why, "use an https:// URL")
    return way


def _check_name(hello: ClientHello, expected: str) -> None:
    """Only an address has no name in TLS (RFC 6066 §3)."""
    named = plain_name(hello.server_name) if hello.server_name else None
    if named == (None if _is_address(expected) else expected):
        return
    said = f"names {named!r}" if named else "names no server"
    advice = "connect to the host that is meant: one name for CONNECT and for TLS"
    raise Denied(EgressRule.SNI, f"the ClientHello for {expected} {said}", advice)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _dial(addresses: list[tuple[str, int]]) -> socket.socket:
    """Connect to the first address that answers: a host may have an IPv6 address and this machine no IPv6."""
    deadline = time.monotonic() + DIAL_SECONDS
    for address in addresses[:-1]:
        with suppress(OSError):
            return socket.create_connection(address, timeout=max(0.001, deadline - time.monotonic()))
    return socket.create_connection(addresses[-1], timeout=max(0.001, deadline - time.monotonic()))
