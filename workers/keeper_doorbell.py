"""The worker's ear at the keeper: wakes whoever reads a spool."""

from __future__ import annotations

import select
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    import socket

Ring = Literal["data", "eof", "lost"]


class Doorbell:
    """Says that a spool has more to read. One thread at a time; use it in `with`."""

    def __init__(self, connection: socket.socket, received: bytes) -> None:
        self._socket = connection
        self._received = received
        self._eof = False
        connection.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def fileno(self) -> int:
        """For a selector of the caller's; call `wait(0)` when it is readable."""
        return self._socket.fileno()

    def wait(self, timeout_seconds: float | None) -> Ring | None:
        """Wait for a ring; all that came by now are one. None: the timeout passed (as timeout: for ever).

        "data": read the spool. "eof": read it to its end; nothing will follow (said again at each call).
        "lost": the keeper is gone; the spool may still hold unread chunks, and the stream has no owner.
        """
        if self._eof:
            return "eof"
        if not self._received:
            poller = select.poll()
            poller.register(self._socket, select.POLLIN)
            if not poller.poll(None if timeout_seconds is None else timeout_seconds * 1000):
                return None
        return self._drain()

    def _drain(self) -> Ring:
        rings, self._received = self._received, b""
        lost = False
        with suppress(BlockingIOError):
            while not lost:
                try:
                    part = self._socket.recv(4096)
                except ConnectionError:
                    part = b""
                rings += part
                lost = not part
        if b"e" in rings:
            self._eof = True
            return "eof"
        # Data first: at the next call a lost keeper is still lost.
        return "data" if rings else "lost"

    def close(self) -> None:
        """Stop listening; the keeper goes on without. Harmless when repeated."""
        self._socket.close()
