"""One client of the keeper: JSON lines in, with descriptors beside them; replies or doorbell bytes out."""

from __future__ import annotations

import array
import json
import os
import selectors
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REQUEST_MAX_BYTES = 6 * 1024 * 1024  # 4 MiB for the gate, in base64
_REPLY_BACKLOG_BYTES = 4 * 1024 * 1024  # a keepsake holds up to 1 MiB of secrets, in base64
_DESCRIPTORS_MAX = 16
RING_DATA = b"d"
RING_END = b"e"


class Connection:
    """Never blocks. A client that breaks the protocol or does not read its replies is disconnected."""

    def __init__(
        self,
        client: socket.socket,
        selector: selectors.BaseSelector,
        on_request: Callable[[Connection, dict[str, object]], None],
        on_close: Callable[[Connection], None],
    ) -> None:
        """`on_request` answers with `reply`; `on_close` is called once, after the socket is closed."""
        self._socket = client
        self._selector = selector
        self._on_request = on_request
        self._on_close = on_close
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._descriptors: list[int] = []
        self._events = selectors.EVENT_READ
        self._closed = False
        client.setblocking(False)
        selector.register(client, self._events, self.ready)

    def ready(self, mask: int) -> None:
        """The selector's call."""
        if mask & selectors.EVENT_WRITE:
            self._flush()
        if mask & selectors.EVENT_READ and not self._closed:
            self._receive()

    def reply(self, body: dict[str, object]) -> None:
        """Queue one line."""
        self._outgoing += json.dumps(body).encode() + b"\n"
        if len(self._outgoing) > _REPLY_BACKLOG_BYTES:
            self.close()
        else:
            self._flush()

    def ring_data(self) -> None:
        """One byte for "there is more", unless as much is waiting already as the socket takes."""
        if self._closed:
            return
        if self._outgoing:
            if not self._outgoing.endswith(RING_DATA):
                self._outgoing += RING_DATA
            return
        try:
            self._socket.send(RING_DATA)
        except BlockingIOError:
            pass  # unread rings wait already, and one is enough
        except OSError:
            self.close()

    def ring_end(self) -> None:
        """One byte for "the stream has ended"; unlike the others it is never left out."""
        if not self._closed and not self._outgoing.endswith(RING_END):
            self._outgoing += RING_END
            self._flush()

    def take_descriptor(self) -> int | None:
        """The oldest descriptor received and not yet taken; the caller owns it."""
        return self._descriptors.pop(0) if self._descriptors else None

    def close(self) -> None:
        """Disconnect and close what nobody took. Harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        self._selector.unregister(self._socket)
        self._socket.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        self._on_close(self)

    def _receive(self) -> None:
        try:
            data = self._receive_with_descriptors()
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        scanned = len(self._incoming)
        self._incoming += data
        while not self._closed:
            end = self._incoming.find(b"\n", scanned)
            if end < 0:
                break
            line = bytes(self._incoming[:end])
            del self._incoming[: end + 1]
            scanned = 0
            self._take_line(line)
        if len(self._incoming) > REQUEST_MAX_BYTES or len(self._descriptors) > _DESCRIPTORS_MAX:
            self.close()

    def _receive_with_descriptors(self) -> bytes:
        # Not socket.recv_fds: it drops its flags argument (Python 3.11), and without CLOEXEC the programs
        # that stop sandboxes would inherit attach streams.
        fds = array.array("i")
        space = socket.CMSG_SPACE(_DESCRIPTORS_MAX * fds.itemsize)
        data, ancillary, _flags, _address = self._socket.recvmsg(256 * 1024, space, socket.MSG_CMSG_CLOEXEC)
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
        self._descriptors += fds
        return data

    def _take_line(self, line: bytes) -> None:
        try:
            request = json.loads(line)
        except ValueError:
            request = None
        if isinstance(request, dict):
            self._on_request(self, request)
        else:
            self.reply({"ok": False, "code": "bad_request", "error": "the keeper expects one JSON object a line"})

    def _flush(self) -> None:
        if self._closed:
            return
        try:
            while self._outgoing:
                del self._outgoing[: self._socket.send(self._outgoing)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outgoing else 0)
        if events != self._events:
            self._selector.modify(self._socket, events, self.ready)
            self._events = events
