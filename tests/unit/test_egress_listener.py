"""The proxy on sockets of this process: how connections are served, bounded, and cut. Loopback only."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest

from orchestrator.contacts import EgressRule
from tests.e2e.stack import eventually
from workers.egress import connection as connections
from workers.egress import proxy
from workers.egress import relay as relays
from workers.egress.client_hello import ClientHello, read_hello
from workers.egress.denial import Denied
from workers.egress.listener import MAX_CONNECTIONS
from workers.egress.policy import Policy
from workers.egress.report import MAX_NOTED, EgressReport

NAME = "server.test"
Serve = Callable[[socket.socket], None]


@contextmanager
def server(serve: Serve) -> Iterator[int]:
    """Serve each connection in a thread of its own; the port."""

    def one(client: socket.socket) -> None:
        with client:
            try:
                serve(client)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=one, args=(client,)))
            threads[-1].start()

    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join(30)


def echo(client: socket.socket) -> None:
    while data := client.recv(65536):
        client.sendall(data)


class Proxy:
    """A listener that lets through to `server.test` on one port."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.report = EgressReport()
        self.bytes = [0, 0]
        self.report.counted = self._count
        listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = listening.getsockname()
        policy = Policy.for_hosts([f"{NAME}:{port}"], ["127.0.0.0/8"], lookup=_loopback)
        self.listener = proxy(listening, policy, self.report)

    def _count(self, up: int, down: int) -> None:
        self.bytes[0] += up
        self.bytes[1] += down

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, 30)

    def tunnel(self) -> socket.socket:
        one = self.connect()
        try:
            one.sendall(f"CONNECT {NAME}:{self.port} HTTP/1.1\r\n\r\n".encode())
            answer = one.recv(4096)
            assert answer == b"HTTP/1.1 200 Connection established\r\n\r\n", answer
        except BaseException:
            one.close()
            raise
        return one


def _loopback(_host: str, _port: int) -> Sequence[str]:
    return ["127.0.0.1"]


@contextmanager
def proxy_to(serve: Serve) -> Iterator[Proxy]:
    with server(serve) as port:
        proxy = Proxy(port)
        try:
            yield proxy
        finally:
            proxy.listener.close()


def read(one: socket.socket) -> bytes:
    found = b""
    while more := one.recv(65536):
        found += more
    return found


def test_bytes_pass_both_ways_at_once_however_slowly_one_side_reads() -> None:
    data = bytes(range(256)) * 40_000
    with proxy_to(echo) as proxy, proxy.tunnel() as one:
        # The server sends back what this side does not read yet, while this side goes on to send.
        sending = threading.Thread(target=lambda: (one.sendall(data), one.shutdown(socket.SHUT_WR)))
        sending.start()
        assert read(one) == data
        sending.join()
        eventually("all is counted", lambda: proxy.bytes == [len(data), len(data)], 30)


def test_a_half_close_is_passed_on_and_the_answer_still_comes() -> None:
    def answer_at_the_end(client: socket.socket) -> None:
        client.sendall(b"%d" % len(read(client)))

    with proxy_to(answer_at_the_end) as proxy, proxy.tunnel() as one:
        one.sendall(b"x" * 1000)
        one.shutdown(socket.SHUT_WR)
        assert read(one) == b"1000"


def test_closing_cuts_what_stands_and_no_thread_is_left() -> None:
    before = threading.active_count()
    ended = threading.Event()

    def hold(client: socket.socket) -> None:
        client.recv(1)
        ended.set()

    with proxy_to(hold) as proxy:
        tunnel, waiting = proxy.tunnel(), proxy.connect()
        plain = proxy.connect()
        plain.sendall(f"GET http://{NAME}:{proxy.port}/ HTTP/1.1\r\n\r\n".encode())
        proxy.listener.close()
        proxy.listener.close()
        for one in (tunnel, waiting, plain):
            with closing(one):
                one.settimeout(30)
                with suppress(ConnectionResetError):
                    assert one.recv(10) == b""
        assert ended.wait(30)
        with pytest.raises(ConnectionRefusedError):
            proxy.connect()
    eventually("the threads have ended", lambda: threading.active_count() <= before, 30)


def test_beyond_the_limit_a_connection_is_closed_at_once_and_a_place_is_free_again_later() -> None:
    with proxy_to(echo) as proxy:
        held = [proxy.tunnel() for _ in range(MAX_CONNECTIONS)]
        with proxy.connect() as one:
            one.settimeout(30)
            assert one.recv(10) == b""
        assert proxy.report.denied == ["the sandbox has 64 connections at once; close some, or open fewer"]
        held.pop().close()

        def again() -> bool:
            try:
                proxy.tunnel().close()
            except (AssertionError, OSError):
                return False
            return True

        eventually("there is room again", again, 30)
        for one in held:
            one.close()


def test_who_says_nothing_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.1)
    with proxy_to(echo) as proxy:
        for said in (b"", b"CONNECT serv", b"GET http://server.test/ HTTP/1.1\r\nA: b\r\n"):
            with proxy.connect() as one:
                one.sendall(said)
                assert read(one).startswith(b"HTTP/1.1 403 Forbidden")
    [words] = proxy.report.denied
    assert words.startswith("the head of a request has no end; let an HTTP client make the request")


def test_a_head_that_has_no_end_is_refused_and_not_held() -> None:
    with proxy_to(echo) as proxy, proxy.connect() as one:
        try:
            one.sendall(b"GET http://server.test/ HTTP/1.1\r\n" + b"A: b\r\n" * 5000)
            answer = read(one)
        except (ConnectionResetError, BrokenPipeError):
            answer = b"HTTP/1.1 403 Forbidden"  # it was closed while more was on its way
    assert answer.startswith(b"HTTP/1.1 403 Forbidden")


class Counting(bytearray):
    """Counts what is searched for the end of a head."""

    searched = 0

    def find(self, *wanted: Any) -> int:
        Counting.searched += len(self) - (wanted[1] if len(wanted) > 1 else 0)
        return super().find(*wanted)


class Dripping(socket.socket):
    """Gives one byte at a time, whatever has come."""

    def recv(self, _size: int, flags: int = 0) -> bytes:
        return super().recv(1, flags)


@contextmanager
def byte_by_byte(sent: bytes) -> Iterator[tuple[connections.Connection, socket.socket]]:
    """A connection that gets `sent` a byte at a time, and its client's end."""
    ours, theirs = socket.socketpair()
    with ours, Dripping(fileno=theirs.detach()) as dripping:
        ours.sendall(sent)
        policy = Policy.for_hosts([f"{NAME}:443"], lookup=_loopback)
        yield connections.Connection(dripping, policy, EgressReport()), ours


def test_a_head_that_comes_byte_by_byte_is_not_searched_from_its_beginning_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "bytearray", Counting, raising=False)
    monkeypatch.setattr(Counting, "searched", 0)
    head = b"GET http://denied.test/ HTTP/1.1\r\nA: " + b"b" * 2000 + b"\r\n\r\n"
    with byte_by_byte(head) as (connection, ours):
        connection.serve()
        assert ours.recv(4096).startswith(b"HTTP/1.1 403 Forbidden")
    assert len(head) <= Counting.searched <= 5 * len(head)


def test_a_client_hello_that_comes_byte_by_byte_is_read_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = b"\x01" + (996).to_bytes(3) + bytes(996)
    reads: list[int] = []

    def counted(data: bytes) -> ClientHello | int:
        reads.append(len(data))
        return read_hello(data)

    monkeypatch.setattr(connections, "read_hello", counted)
    pieces = (whole[place : place + 250] for place in range(0, 1000, 250))
    sent = b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2) + piece for piece in pieces)
    with byte_by_byte(sent) as (connection, _), pytest.raises(Denied):
        connection._checked_hello(b"", NAME)
    assert reads == [0, 5, 9, 255, 260, 510, 515, 765, 770, 1020]


def test_a_tunnel_on_which_nothing_is_said_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "IDLE_SECONDS", 0.1)
    with proxy_to(echo) as proxy, proxy.tunnel() as one:
        assert read(one) == b""


def test_a_host_that_does_not_answer_is_told_apart_from_one_that_is_denied() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    proxy = Proxy(port)
    with closing(proxy.listener), proxy.connect() as one:
        one.sendall(f"CONNECT {NAME}:{port} HTTP/1.1\r\n\r\n".encode())
        assert read(one).startswith(b"HTTP/1.1 502 Bad Gateway")
    assert proxy.report.failed == [f"{NAME}:{port} cannot be reached: Connection refused"]
    assert proxy.report.denied == []


def test_of_a_helper_s_denials_each_is_kept_once_and_the_first_hundred_only() -> None:
    report = EgressReport()
    for number in range(1000):
        for _ in range(2):
            report.on_denied("", 0, Denied(EgressRule.NOT_ALLOWED, f"{number}", "do"))
            report.on_failed("", 0, f"{number}")
    assert report.denied == [f"{number}; do" for number in range(MAX_NOTED)]
    assert report.failed == [f"{number}" for number in range(MAX_NOTED)]


def test_a_body_is_passed_on_to_its_declared_end_and_no_further() -> None:
    def take(client: socket.socket) -> None:
        data = b""
        while b"12345" not in data:
            data += client.recv(4096)
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + data)

    with proxy_to(take) as proxy, proxy.connect() as one:
        head = f"POST http://{NAME}:{proxy.port}/ HTTP/1.1\r\nHost: evil.test\r\nContent-Length: 5\r\n\r\n"
        for piece in (head.encode(), b"123", b"45GET http://evil.test/ HTTP/1.1\r\n\r\n"):
            one.sendall(piece)
        answer = read(one)
    assert answer.endswith(b"12345")
    assert b"evil" not in answer
    assert f"Host: {NAME}:{proxy.port}".encode() in answer
