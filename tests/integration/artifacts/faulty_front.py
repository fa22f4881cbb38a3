"""A proxy before an object storage that fails on demand, and is as strict as an old S3-compatible server."""

from __future__ import annotations

import base64
import hashlib
import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.servers.http import serving

HANG_SECONDS = 60.0
"""Longer than any client of the tests waits; hanging connections are let go when the proxy ends."""


@dataclass
class Call:
    """A request as it arrived. `forward` asks the storage behind: status, headers, body."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    forward: Callable[[], Answer]


@dataclass
class Answer:
    """`cut_at`: so many bytes of the body are sent, then the connection is closed; `hang` comes before that."""

    status: int
    headers: dict[str, str]
    body: bytes
    cut_at: int | None = None
    hang: bool = False


Fault = Callable[[Call], Answer | None]
"""Answers in place of the storage; None lets the request pass."""


def refusal(status: int, code: str, message: str = "for this test") -> Answer:
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Answer(status, {"Content-Type": "application/xml"}, text.encode())


def silence() -> Answer:
    """Not one byte comes."""
    return Answer(0, {}, b"", hang=True)


def closed() -> Answer:
    """The connection ends without an answer."""
    return Answer(0, {}, b"")


@dataclass
class FaultyFront:
    """Forwards to the storage at loopback port `behind`. `fault` may be changed at any time."""

    behind: int
    fault: Fault | None = None
    calls: list[Call] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> Iterator[FaultyFront]:
        front = self

        class Bound(_Handler):
            pass

        Bound.front = front
        with serving(Bound, self.over) as self.port:
            yield self

    def answer(self, call: Call) -> Answer:
        self.calls.append(call)
        return (self.fault and self.fault(call)) or self.pass_on(call)

    def pass_on(self, call: Call) -> Answer:
        """What a storage does that verifies, and that has not heard of anything newer than Content-MD5."""
        if "aws-chunked" in call.headers.get("content-encoding", "") or "x-amz-trailer" in call.headers:
            return refusal(501, "NotImplemented")
        if call.method == "PUT" or (call.method == "POST" and call.path.endswith("?delete")):
            sent = base64.b64encode(hashlib.md5(call.body, usedforsecurity=False).digest()).decode()
            if "content-md5" not in call.headers:
                return refusal(400, "InvalidRequest", "Missing required header for this request: Content-MD5")
            if call.headers["content-md5"] != sent:
                return refusal(400, "BadDigest")
        return call.forward()


class _Handler(BaseHTTPRequestHandler):
    front: FaultyFront

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(self.command, self.path, headers, body, lambda: self._behind(call))
        answer = self.front.answer(call)
        self.close_connection = True
        if answer.status:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if "content-length" not in {name.lower() for name in answer.headers}:
                self.send_header("Content-Length", str(len(answer.body)))
            self.send_header("Connection", "close")
            self.end_headers()
            with suppress(ConnectionError):  # a client that gave up
                self.wfile.write(answer.body[: answer.cut_at])
        if answer.hang:
            self.front.over.wait(HANG_SECONDS)
        elif answer.cut_at is not None or not answer.status:
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815 - the names that http.server looks for

    def _behind(self, call: Call) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.front.behind, timeout=HANG_SECONDS)
        try:
            connection.request(call.method, call.path, call.body, call.headers)
            response = connection.getresponse()
            body = response.read()
            dropped = {"connection", "transfer-encoding", "date", "server"}
            headers = {name: value for name, value in response.getheaders() if name.lower() not in dropped}
            return Answer(response.status, headers, body)
        finally:
            connection.close()

    def log_message(self, *_: Any) -> None:
        return
