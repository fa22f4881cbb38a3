"""What a sandbox sends on one connection: heads and bodies of requests, one after another, each within its time."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

from workers.model_api.request import Refused

MAX_HEAD_BYTES = 64 << 10
HEAD_END = b"\r\n\r\n"
PIECE_BYTES = 64 << 10
IDLE_SECONDS = 900.0
"""Between two requests; a tool of an agent may run for long, and the number of connections is bounded anyway."""
HEAD_SECONDS = 15.0
"""From the first byte of a head to its end."""
BODY_SECONDS = 300.0
"""For a whole body, the time that the model API needs to take it included."""


class ClientGone(ConnectionError):
    """The sandbox closed the connection in the middle of a request, or was too slow."""


class Incoming:
    """Not thread-safe. Holds no more than a head, or one piece of a body."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self._early = bytearray()

    def head(self) -> bytes | None:
        """The next request's head, without the empty line that ends it; None when there is none any more.

        Raises `Refused`, `ClientGone`.
        """
        received, self._early = self._early, bytearray()
        if not received:
            first = self._receive(time.monotonic() + IDLE_SECONDS)
            if not first:
                return None
            received += first
        deadline, looked_at = time.monotonic() + HEAD_SECONDS, 0
        while (end := received.find(HEAD_END, looked_at)) < 0:
            looked_at = max(0, len(received) - len(HEAD_END) + 1)
            if len(received) > MAX_HEAD_BYTES:
                break
            more = self._receive(deadline)
            if not more:
                raise ClientGone("the head of a request has no end")
            received += more
        if not 0 <= end <= MAX_HEAD_BYTES:
            raise Refused(431, "invalid_request_error", f"the head of a request has more than {MAX_HEAD_BYTES:,} bytes")
        self._early = received[end + len(HEAD_END) :]
        return bytes(received[:end])

    def body(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes, in pieces. Raises `ClientGone`."""
        deadline = time.monotonic() + BODY_SECONDS
        while size:
            piece = bytes(self._early[: min(size, PIECE_BYTES)])
            del self._early[: len(piece)]
            if not piece:
                piece = self._receive(deadline, min(size, PIECE_BYTES))
            if not piece:
                raise ClientGone("the body of a request ended early, or came too slowly")
            size -= len(piece)
            yield piece

    def _receive(self, deadline: float, at_most: int = 4096) -> bytes:
        """What comes next; nothing at the end, and when the time is over."""
        self._client.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            return self._client.recv(at_most)
        except TimeoutError:
            return b""
