"""Connections whose request has not arrived yet: each has so many seconds for it, and each address so many of them.

A thread that waits for a client serves nobody else. The sockets wait without a timeout, since one would be for each
byte; so a thread of its own shuts down those that are overdue, which ends the wait of whoever reads from them.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

SWEEP_SECONDS = 0.25
PATIENCE_SECONDS = 5.0
"""Younger ones are not closed for being too many, unless the threads run out: a thousand readers that come back at
once, with TLS, keep two processors busy for some seconds."""
CLOSED_SECONDS = 5.0
"""A socket that is closed so long after its deadline is forgotten. One that TLS takes over seems so for a moment."""


class Connection(Protocol):
    """gunicorn's. `sock` changes when TLS begins; `client` is the address of the other end."""

    sock: socket.socket
    client: Any


@dataclass(slots=True)
class Wait:
    """`deadline` None: no thread serves the connection yet, and it holds up nobody."""

    network: str
    since: float
    deadline: float | None = None


class Unfinished:
    """Thread-safe. Times are seconds of `clock`.

    `most`: connections of one network (an IPv4 address, an IPv6 /64) that may wait for their client at once. Beyond
    that those that have waited longest are closed, so that who is behind the same address and does not dawdle gets in.
    """

    def __init__(
        self, most: int, network_of: Callable[[str], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._network_of = network_of
        self._clock = clock
        self._lock = threading.Lock()
        self._waits: dict[Connection, Wait] = {}

    def begin(self, connection: Connection) -> bool:
        """Count the connection from now on; false when it is counted already."""
        with self._lock:
            if connection in self._waits:
                return False
            address = connection.client[0] if connection.client else ""
            self._waits[connection] = Wait(self._network_of(address), self._clock())
            return True

    def limit(self, connection: Connection, seconds: float) -> None:
        """Close the connection unless `end` is called within `seconds`; a limit it has already stays."""
        with self._lock:
            wait = self._waits.get(connection)
            if wait is not None and wait.deadline is None:
                wait.deadline = self._clock() + seconds

    def end(self, connection: Connection) -> None:
        """What was waited for is there, or the connection is no more. Idempotent."""
        with self._lock:
            self._waits.pop(connection, None)

    def sweep(self, *, crowded: bool) -> int:
        """Close who is overdue and who is too many; return how many. `crowded`: the threads run out."""
        with self._lock:  # held until the last one is shut down: nobody closes a socket whose number comes back
            now = self._clock()
            overdue: list[Connection] = []
            waiting: dict[str, list[Connection]] = defaultdict(list)
            for connection, wait in list(self._waits.items()):
                if wait.deadline is None or wait.deadline > now:
                    waiting[wait.network].append(connection)
                elif connection.sock.fileno() < 0 and wait.deadline + CLOSED_SECONDS < now:
                    del self._waits[connection]
                else:
                    overdue.append(connection)  # and again at the next sweep, should this one come at a bad moment
            latest = now if crowded else now - PATIENCE_SECONDS
            for oldest_first in waiting.values():
                overdue += self._surplus(oldest_first, latest)
            for connection in overdue:
                _shut_down(connection)
            return len(overdue)

    def _surplus(self, oldest_first: list[Connection], latest: float) -> list[Connection]:
        """Those that are too many, and began at `latest`. With bytes to be read it is not the client that is slow."""
        surplus = len(oldest_first) - self._most
        found: list[Connection] = []
        for connection in oldest_first:
            if len(found) >= surplus or self._waits[connection].since > latest:
                break
            if not _has_bytes(connection):
                found.append(connection)
        return found


class TimedReader:
    """Reads the body of a request; all the waits for it together last `seconds` at most.

    The time in between is the application's: it may answer for hours without a look at the rest of the body.
    """

    def __init__(self, reader: Any, connection: Connection, unfinished: Unfinished, seconds: float) -> None:
        self._reader = reader
        self._connection = connection
        self._unfinished = unfinished
        self._seconds_left = seconds

    def read(self, size: int) -> bytes:
        began = time.monotonic()
        is_ours = self._unfinished.begin(self._connection)  # else it is read to get at the next head, in its time
        self._unfinished.limit(self._connection, self._seconds_left)
        try:
            data: bytes = self._reader.read(size)
            return data
        finally:
            self._seconds_left -= time.monotonic() - began
            if is_ours:
                self._unfinished.end(self._connection)


def _shut_down(connection: Connection) -> None:
    """Below TLS, which would wait for its turn. Whoever reads from the connection gets its end."""
    with suppress(OSError):  # closed, or not yet in TLS's hands
        socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)


def _has_bytes(connection: Connection) -> bool:
    number = connection.sock.fileno()
    if number < 0:
        return True
    poller = select.poll()
    poller.register(number, select.POLLIN)
    return bool(poller.poll(0))
