"""Connections whose request does not arrive: which are closed, and which are left alone."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from api.peer import peer_of
from api.unfinished import PATIENCE_SECONDS, TimedReader, Unfinished


@dataclass(eq=False)
class End:
    """The server's end of a connection; `other` is the client's."""

    sock: socket.socket
    other: socket.socket
    client: tuple[str, int]

    @property
    def is_cut(self) -> bool:
        self.other.settimeout(0)
        try:
            return self.other.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


Connect = Callable[[str], End]


@pytest.fixture
def connect() -> Iterator[Connect]:
    made: list[End] = []

    def connect(address: str) -> End:
        made.append(End(*socket.socketpair(), (address, 1)))
        return made[-1]

    yield connect
    for one in made:
        one.sock.close()
        one.other.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def unfinished(clock: Clock) -> Unfinished:
    return Unfinished(2, lambda address: peer_of(address, "", {}, ()).network, clock)


def test_bytes_that_drip_do_not_extend_the_time_and_what_has_arrived_is_left_alone(
    unfinished: Unfinished, connect: Connect, clock: Clock
) -> None:
    slow, done, queued = (connect("192.0.2.1") for _ in range(3))
    for one in (slow, done, queued):
        unfinished.begin(one)
    for one in (slow, done):
        unfinished.limit(one, 15)
    unfinished.end(done)
    clock.now += 14
    slow.other.send(b"a")
    unfinished.limit(slow, 15)
    assert unfinished.sweep(crowded=False) == 0
    clock.now += 1
    assert unfinished.sweep(crowded=False) == 1
    assert (slow.is_cut, done.is_cut, queued.is_cut) == (True, False, False)


def test_of_too_many_from_one_address_the_oldest_that_send_nothing_go(
    unfinished: Unfinished, connect: Connect, clock: Clock
) -> None:
    sending, silent, *later = (connect("192.0.2.1") for _ in range(4))
    elsewhere = connect("192.0.2.2")
    for one in (sending, silent, *later, elsewhere):
        unfinished.begin(one)
    sending.other.send(b"GET / HTTP/1.1\r\n\r\n")  # it waits for us
    assert unfinished.sweep(crowded=False) == 0  # all have just begun
    clock.now += PATIENCE_SECONDS
    assert unfinished.sweep(crowded=False) == 2
    assert [one.is_cut for one in (sending, silent, *later, elsewhere)] == [False, True, True, False, False]


def test_when_threads_run_out_the_young_go_too_and_one_ipv6_network_counts_as_one(
    unfinished: Unfinished, connect: Connect
) -> None:
    same = [connect(f"2001:db8::{number}") for number in range(3)]
    other = [connect(f"2001:db8:0:{number}::1") for number in range(1, 4)]
    for one in (*same, *other):
        unfinished.begin(one)
    assert unfinished.sweep(crowded=True) == 1
    assert [one.is_cut for one in (*same, *other)] == [True, False, False, False, False, False]


def test_a_body_is_timed_while_it_is_read_and_not_while_it_is_answered(
    unfinished: Unfinished, connect: Connect, clock: Clock
) -> None:
    connection = connect("192.0.2.1")
    cut: list[bool] = []

    class Reader:
        def read(self, _size: int) -> bytes:
            clock.now += 61
            unfinished.sweep(crowded=False)
            cut.append(connection.is_cut)
            return b""

    body = TimedReader(Reader(), connection, unfinished, 60)
    clock.now += 1000
    assert unfinished.sweep(crowded=False) == 0
    assert not connection.is_cut
    body.read(1)
    assert cut == [True]
    assert unfinished.begin(connection)  # nothing is left behind


def test_a_connection_that_is_gone_is_forgotten(unfinished: Unfinished, connect: Connect, clock: Clock) -> None:
    gone = connect("192.0.2.1")
    unfinished.begin(gone)
    unfinished.limit(gone, 15)
    gone.sock.close()
    clock.now += 60
    assert unfinished.sweep(crowded=False) == 0
    assert unfinished.begin(gone)
