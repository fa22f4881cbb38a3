"""A receiver of webhooks on loopback, that answers as a test wants."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.servers.http import serving


@dataclass(frozen=True)
class Received:
    """One request as it arrived. Header names are in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Receiver:
    """`answer` says the status of each request; 3xx go with `location`. It may wait, for `over` at most."""

    over: threading.Event = field(default_factory=threading.Event)
    answer: Callable[[Received], int] = lambda _request: 204
    location: str = ""
    received: list[Received] = field(default_factory=list)
    port: int = 0
    tls: bool = False

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/hook"

    @property
    def events(self) -> list[str]:
        return [one.told["type"] for one in self.received]


@contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Receive until the block ends."""
    receiver = Receiver(tls=tls is not None)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Received(self.path, headers, self.rfile.read(size))
            receiver.received.append(request)
            self.send_response(receiver.answer(request))
            if receiver.location:
                self.send_header("Location", receiver.location)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_args: Any) -> None:
            """Say nothing."""

    with serving(Handler, receiver.over, tls) as port:
        receiver.port = port
        yield receiver
