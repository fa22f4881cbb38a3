"""A model API of the test's own on loopback, and a sandbox's end of a connection to it through the relay."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.servers.http import serving
from workers.model_api.access import Access
from workers.model_api.connection import ModelConnection
from workers.model_api.meter import Meter
from workers.model_api.prices import BUILT_IN
from workers.model_api.trust import trusted

KEY = "sk-ant-the-operators-own-key-0123456789"
MODEL = "claude-sonnet-4-5-20250929"
SECONDS = 30.0
Answer = Callable[["Request"], None]


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def start(**usage: int) -> bytes:
    return event("message_start", message={"id": "msg_1", "model": MODEL, "usage": usage})


def text(words: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": words})


def stop(**usage: int) -> bytes:
    return event("message_delta", delta={"stop_reason": "end_turn"}, usage=usage) + event("message_stop")


STREAM = start(input_tokens=100, output_tokens=1) + text("hello") + stop(output_tokens=20)
MESSAGE = json.dumps({"type": "message", "model": MODEL, "usage": {"input_tokens": 7, "output_tokens": 3}}).encode()


class Request(BaseHTTPRequestHandler):
    """One request at the API. `taken` is its body, as far as it was read."""

    protocol_version = "HTTP/1.1"
    taken = b""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass

    def read_body(self) -> bytes:
        self.taken = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return self.taken

    def reply(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def begin_stream(self, *headers: tuple[str, str]) -> None:
        """A chunked answer."""
        self.send_response(200)
        for name, value in (("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked"), *headers):
            self.send_header(name, value)
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def begin_endless(self, kind: str = "text/event-stream") -> None:
        """An answer that ends with its connection."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        self.end_headers()

    def break_off(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


@dataclass
class Api:
    """What has reached it, as (method and path, headers, body); how it answers."""

    answer: Answer
    port: int = 0
    scheme: str = "http"
    over: threading.Event = field(default_factory=threading.Event)
    seen: list[tuple[str, list[tuple[str, str]], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def headers(self, number: int = -1) -> dict[str, str]:
        return {name.lower(): value for name, value in self.seen[number][1]}


def streamed(request: Request) -> None:
    request.begin_stream()
    request.chunk(STREAM)
    request.chunk(b"")


@contextmanager
def running_api(
    answer: Answer = streamed, tls: ssl.SSLContext | None = None, *, reads_body: bool = True
) -> Iterator[Api]:
    api = Api(answer, scheme="https" if tls else "http")

    class Handler(Request):
        def handle_one(self) -> None:
            if reads_body:
                self.read_body()
            api.seen.append((f"{self.command} {self.path}", list(self.headers.items()), self.taken))
            try:
                api.answer(self)
            except OSError:
                self.close_connection = True

        do_GET = do_POST = do_HEAD = handle_one  # noqa: N815 - names of the base class

    with serving(Handler, api.over, tls) as port:
        api.port = port
        yield api


@dataclass
class Sandbox:
    """The other end of the relay's connection. `ended` holds what `serve` raised, if anything."""

    socket: socket.socket
    connection: ModelConnection
    meter: Meter
    thread: threading.Thread
    ended: list[OSError] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer, read by HTTP's rules. Raises `http.client.IncompleteRead` when it is cut."""
        with HTTPResponse(self.socket) as response:
            response.begin()
            body = response.read()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, body

    def ask(self, body: bytes = b"{}", path: str = "/v1/messages?beta=true") -> tuple[int, dict[str, str], bytes]:
        self.send(post(body, path))
        return self.answer()

    def rest(self) -> bytes:
        """All until it is closed."""
        found = b""
        with suppress(ConnectionResetError):
            while more := self.socket.recv(65536):
                found += more
        return found

    def hang_up(self) -> bytes:
        """Say that nothing follows; what still comes."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        return self.rest()

    def is_over(self) -> bool:
        self.thread.join(SECONDS)
        return not self.thread.is_alive()


def post(body: bytes = b"{}", path: str = "/v1/messages?beta=true", *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1:3129", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def access_to(url: str, *, secrets: tuple[str, ...] = (KEY,), **headers: str) -> Access:
    given = headers or {"x-api-key": KEY}
    return Access(url, tuple((name.replace("_", "-"), value) for name, value in given.items()), secrets, trusted())


def message_of(body: bytes, kind: str) -> str:
    """The message of an error in the API's shape."""
    said = json.loads(body)
    assert said["type"] == "error"
    assert said["error"]["type"] == kind
    return str(said["error"]["message"])


@contextmanager
def sandbox(access: Access | Callable[[], Access], meter: Meter | None = None) -> Iterator[Sandbox]:
    """A connection that the relay serves in a thread of its own."""
    ours, theirs = socket.socketpair()
    ours.settimeout(SECONDS)
    counted = meter or Meter(None, BUILT_IN)
    connection = ModelConnection(theirs, access if callable(access) else lambda: access, counted)
    ended: list[OSError] = []

    def serve() -> None:
        with theirs:
            try:
                connection.serve()
            except OSError as error:
                ended.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    with ours:
        try:
            yield Sandbox(ours, connection, counted, thread, ended)
        finally:
            connection.cut()
            thread.join(SECONDS)
            assert not thread.is_alive()


@contextmanager
def sandbox_of(api: Api, meter: Meter | None = None) -> Iterator[Sandbox]:
    with sandbox(access_to(api.url), meter) as one:
        yield one
