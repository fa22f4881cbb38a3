"""A WebSocket that only sends: the handshake, and what the other end may say meanwhile (RFC 6455).

In one thread: what has come is read when there is time between two messages.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import ssl
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any

from flask import Response
from werkzeug.datastructures import Headers
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Message,
    Ping,
    Request,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from api.errors import Refusal
from orchestrator.store.database import StoreUnavailable

log = logging.getLogger(__name__)

KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
READ_BYTES = 64 << 10
MOST_HEARD_BYTES = 1 << 20
"""A reader has nothing to say; one that says so much is not listening."""
NOTHING_TO_READ = (BlockingIOError, ssl.SSLWantReadError)
GOING_AWAY, POLICY_VIOLATION, INTERNAL_ERROR = 1001, 1008, 1011


class Closed(Exception):
    """The other end has closed the connection, or it is broken."""


class Socket:
    """One connection. Every method may raise `Closed`."""

    def __init__(self, connection: socket.socket, protocol: WSConnection) -> None:
        self._connection = connection
        self._protocol = protocol
        self._heard_bytes = 0

    def accept(self, subprotocol: str | None) -> None:
        self.send(self._protocol.send(AcceptConnection(subprotocol=subprotocol)))

    def send(self, data: bytes) -> None:
        """Send bytes as they are; blocks for as long as the other end takes them slowly."""
        try:
            self._connection.sendall(data)
        except OSError as error:
            raise Closed(str(error)) from error

    def listen(self) -> None:
        """Answer what has come: pings, and the other end's goodbye. Messages are passed over."""
        while (data := self._received()) is not None:
            if not data:
                raise Closed("the other end has hung up")
            try:
                self._protocol.receive_data(data)
                for event in self._protocol.events():
                    self._answer(event)
            except RemoteProtocolError as error:
                raise Closed(str(error)) from error
            if self._heard_bytes > MOST_HEARD_BYTES:
                self.close(POLICY_VIOLATION, "this stream only sends")

    def _received(self) -> bytes | None:
        """What has come; None when nothing has, and nothing at the end."""
        try:
            self._connection.setblocking(False)
            return self._connection.recv(READ_BYTES)
        except NOTHING_TO_READ:
            return None
        except OSError as error:
            raise Closed(str(error)) from error
        finally:
            with contextlib.suppress(OSError):
                self._connection.setblocking(True)

    def abandon(self) -> None:
        """Say that something failed here; the other end may come back."""
        with contextlib.suppress(Closed):
            self.close(INTERNAL_ERROR, "the server failed; come back behind the last frame")

    def close(self, code: int, reason: str) -> None:
        """Say goodbye; raises `Closed`."""
        with contextlib.suppress(LocalProtocolError):
            self.send(self._protocol.send(CloseConnection(code=code, reason=reason)))
        raise Closed(reason)

    def _answer(self, event: Event) -> None:
        if isinstance(event, Ping):
            self.send(self._protocol.send(event.response()))
        elif isinstance(event, CloseConnection):
            self.send(self._protocol.send(event.response()))
            raise Closed("the other end said goodbye")
        elif isinstance(event, Message):
            self._heard_bytes += len(event.data)


def handshake(headers: Headers, method: str, version: str, target: str) -> tuple[WSConnection, list[str]]:
    """Understand a request that wants to become a WebSocket; return it with the subprotocols that are offered.

    Raises `Refusal` (400, or 426 for another version of the protocol).
    """
    if method != "GET" or version == "HTTP/1.0" or headers.get("Content-Length", "0") != "0":
        raise _no_handshake(f"{method} of {version}; it is a GET of HTTP/1.1 without a body")
    if headers.get("Sec-WebSocket-Version") not in (None, "13"):
        message = "this server speaks version 13 of the WebSocket protocol; ask with that, or by SSE"
        versions = {"Sec-WebSocket-Version": "13"}
        raise Refusal(HTTPStatus.UPGRADE_REQUIRED, "invalid_parameter", message, headers=versions)
    if not KEY.fullmatch(headers.get("Sec-WebSocket-Key", "")):
        raise _no_handshake("Sec-WebSocket-Key is not 16 bytes in base64")
    protocol = WSConnection(ConnectionType.SERVER)
    try:
        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
        protocol.initiate_upgrade_connection(raw, target)
        for event in protocol.events():
            if isinstance(event, Request):
                return protocol, list(event.subprotocols)
    except RemoteProtocolError as error:
        raise _no_handshake(str(error)) from None
    raise _no_handshake("the request is incomplete")


def _no_handshake(why: str) -> Refusal:
    message = f"this is no WebSocket handshake: {why}; use a WebSocket client, or ask without Upgrade for SSE"
    return Refusal(HTTPStatus.BAD_REQUEST, "invalid_parameter", message)


class WebSocketResponse(Response):
    """An answer that takes the connection over. gunicorn is told by `StopIteration` that nothing is left to answer."""

    def __init__(self, link: Socket, messages: Iterable[bytes], subprotocol: str | None) -> None:
        super().__init__(status=HTTPStatus.SWITCHING_PROTOCOLS)
        self._link = link
        self._messages = messages
        self._subprotocol = subprotocol

    def __call__(self, _environ: dict[str, Any], _start_response: Any) -> Iterator[bytes]:
        """Send until one of the two ends goes. The WSGI server has no part in it."""
        try:
            self._link.accept(self._subprotocol)
            for part in self._messages:
                self._link.send(part)
        except Closed:
            pass
        except StoreUnavailable as error:
            log.warning("event stream cut: the store is away", extra={"error": str(error)})
            self._link.abandon()
        except Exception:  # there is no answer any more in which it could be told
            log.exception("event stream cut")
            self._link.abandon()
        finally:
            closing = getattr(self._messages, "close", None)
            if closing is not None:
                closing()
            self.close()
        raise StopIteration("the WebSocket is closed")
