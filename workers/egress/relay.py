"""Bytes both ways between two sockets, until both have said all or nothing was said for long."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from contextlib import suppress

BUFFER_BYTES = 64 << 10
"""Taken at once; an idle connection holds none of it."""
IDLE_SECONDS = 900.0
"""An agent may wait for a model's answer for minutes; the number of connections is bounded anyway."""


class _Direction:
    """What one end says, on its way to the other. Never blocks: a slow reader must not hold up the other way."""

    def __init__(self, source: socket.socket, sink: socket.socket, count: Callable[[int], None]) -> None:
        self.source = source
        self.sink = sink
        self.waiting = memoryview(b"")
        self.over = False
        self._count = count

    def move(self, ready: set[int]) -> None:
        """Take what has come and pass it on, as far as it goes."""
        if not self.over and not self.waiting and self.source.fileno() in ready:
            with suppress(BlockingIOError):
                self._take()
        if self.waiting:
            with suppress(BlockingIOError):
                sent = self.sink.send(self.waiting)
                self.waiting = self.waiting[sent:]
                self._count(sent)

    def _take(self) -> None:
        received = self.source.recv(BUFFER_BYTES)
        if received:
            self.waiting = memoryview(received)
            return
        self.over = True
        with suppress(OSError):
            self.sink.shutdown(socket.SHUT_WR)


def relay(client: socket.socket, remote: socket.socket, count: Callable[[int, int], None]) -> None:
    """Pass bytes on both ways. `count` is told how many went up and down. Raises `OSError` when an end breaks off."""
    up = _Direction(client, remote, lambda size: count(size, 0))
    down = _Direction(remote, client, lambda size: count(0, size))
    for end in (client, remote):
        end.setblocking(False)
    while True:
        wanted: dict[int, int] = {}
        for one in (up, down):
            if one.waiting:
                wanted[one.sink.fileno()] = wanted.get(one.sink.fileno(), 0) | select.POLLOUT
            elif not one.over:
                wanted[one.source.fileno()] = wanted.get(one.source.fileno(), 0) | select.POLLIN
        if not wanted:
            return
        ready = _wait(wanted)
        if not ready:
            return
        for one in (up, down):
            one.move(ready)


def _wait(wanted: dict[int, int]) -> set[int]:
    """`select` fails beyond descriptor 1023, this not."""
    waiting = select.poll()
    for number, events in wanted.items():
        waiting.register(number, events)
    return {number for number, _ in waiting.poll(IDLE_SECONDS * 1000)}
