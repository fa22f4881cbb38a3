"""One connection of a sandbox to the model API: requests one after another, judged, opened with the operator's key,
passed on, and counted while their answers pass back.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext, suppress

import httpx

from workers.model_api import answers
from workers.model_api.access import Access, ModelKeyUnavailable
from workers.model_api.incoming import Incoming
from workers.model_api.masking import Secrets, masked
from workers.model_api.meter import BudgetExhausted, Call, Meter
from workers.model_api.request import Asked, Refused, Route, not_let_through, parse
from workers.model_api.upstream import Upstream, not_answered
from workers.model_api.usage import AnswerReader, Reader, StreamReader

MAX_ERROR_BYTES = 1 << 20
UNAUTHORIZED, KEY_REFUSED = 401, 403
"""Agents take the first for a key that they could renew, and try for minutes; this one is the operator's."""
SEND_SECONDS = 300.0
"""For a piece of an answer that the sandbox does not take."""
LINGER_SECONDS = 2.0
LINGER_BYTES = 1 << 20
"""Taken of what still comes in when a connection is closed: else its end could overtake the answer."""
_READABLE = frozenset(("", "identity", "gzip", "deflate"))
"""Encodings that the client undoes, should the API use one although it is asked for none."""
_OF_ONE_CONNECTION = frozenset(
    (b"connection", b"content-encoding", b"content-length", b"keep-alive", b"proxy-authenticate", b"set-cookie",
     b"te", b"trailer", b"transfer-encoding", b"upgrade")
)  # fmt: skip
"""Of an answer; not passed back."""


class BrokeOff(ConnectionError):
    """An answer ended before its end. The sandbox sees the same: the connection closes in the middle of it."""


class ModelConnection:
    """Served by one thread; `cut` may be called from any. `access` is asked before each request."""

    def __init__(self, client: socket.socket, access: Callable[[], Access], meter: Meter) -> None:
        self._client = client
        self._access = access
        self._meter = meter
        self._incoming = Incoming(client)
        self._upstream = Upstream()
        self._is_cut = False

    def cut(self) -> None:
        """End it, whatever it is at: a thread that waits for one of its ends wakes up."""
        self._is_cut = True
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)
        self._upstream.cut()

    def serve(self) -> None:
        """Until the sandbox closes it. Raises `OSError` when an end breaks off."""
        with suppress(OSError):  # a Unix socket delays nothing anyway
            self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with closing(self._upstream):
            while not self._is_cut and self._serve_one():
                pass

    def _serve_one(self) -> bool:
        """One request; False when none may follow."""
        try:
            head = self._incoming.head()
            if head is None:
                return False
            asked = parse(head)
        except Refused as refused:
            self._send(answers.error(refused, is_last=True))
            self._linger()
            return False
        if asked.awaits_continue and asked.body_bytes:
            self._send(answers.CONTINUE)
        body = self._incoming.body(asked.body_bytes)
        try:
            self._answer(asked, body)
        except Refused as refused:
            _skip(body)
            self._send(answers.error(refused, is_last=asked.is_last))
        return not asked.is_last

    def _answer(self, asked: Asked, body: Iterator[bytes]) -> None:
        """Raises `Refused` while nothing of an answer was sent; `OSError`."""
        if asked.route is None:
            raise not_let_through(asked)
        if asked.route is Route.ROOT:
            self._send(answers.whole(200, (), b"", is_last=asked.is_last))
            return
        call = None
        try:
            access = self._access()
            if asked.route is Route.MESSAGES:
                call = self._meter.begin()
        except ModelKeyUnavailable as error:
            raise Refused(KEY_REFUSED, "authentication_error", f"{error}; {error.hint}") from None
        except BudgetExhausted as error:
            raise Refused(400, "invalid_request_error", str(error)) from None
        with call or nullcontext(), self._upstream.answer(asked, access, body) as response:
            _skip(body)  # the API may answer before it has taken all, and the sandbox listen only when it has sent all
            self._pass_back(response, asked, access, call)

    def _pass_back(self, response: httpx.Response, asked: Asked, access: Access, call: Call | None) -> None:
        status, headers = response.status_code, _headers(response, access.secrets)
        if status >= 400:
            if call is not None:
                call.fail()
            told = KEY_REFUSED if status == UNAUTHORIZED else status
            self._send(answers.whole(told, headers, _error_body(response, access), is_last=asked.is_last))
            return
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if status != 200 or encoding not in _READABLE:
            what = f"with status {status}" if status != 200 else f"in the encoding {encoding!r}"
            raise not_answered(access, f"answered {what}, which cannot be passed on")
        chunked = (b"transfer-encoding", b"chunked")
        self._send(answers.head(status, (*headers, chunked), is_last=asked.is_last))
        reader = StreamReader() if _is_stream(response) else AnswerReader()
        self._pass_body(response, reader, call)
        if not (reader.is_whole or _has_declared_end(response)):
            raise BrokeOff("the model API closed the connection before its answer was complete")
        if call is not None and reader.has_failed:
            call.fail()
        self._send(answers.LAST_CHUNK)

    def _pass_body(self, response: httpx.Response, reader: Reader, call: Call | None) -> None:
        """Pass it back as it comes, counting first: an answer that nobody takes is paid for too."""
        pieces = response.iter_bytes()
        try:
            for data in pieces:
                reader.feed(data)
                if call is not None:
                    call.saw(reader.model, reader.usage)
                self._send_piece(data, pieces, reader)
        except httpx.HTTPError as error:
            raise BrokeOff(f"the model API broke off: {error}") from None
        finally:
            reader.finish()
            if call is not None:
                call.saw(reader.model, reader.usage)

    def _send_piece(self, data: bytes, following: Iterable[bytes], reader: Reader) -> None:
        try:
            self._send(answers.chunk(data))
        except OSError:
            if isinstance(reader, AnswerReader):
                for more in following:  # made already, and its usage stands at its end
                    reader.feed(more)
            raise

    def _send(self, data: bytes) -> None:
        self._client.settimeout(SEND_SECONDS)
        self._client.sendall(data)

    def _linger(self) -> None:
        deadline, left = time.monotonic() + LINGER_SECONDS, LINGER_BYTES
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_WR)
            while left > 0 and (remaining := deadline - time.monotonic()) > 0:
                self._client.settimeout(remaining)
                taken = self._client.recv(min(left, 64 << 10))
                if not taken:
                    return
                left -= len(taken)


def _skip(body: Iterator[bytes]) -> None:
    for _ in body:
        pass


def _headers(response: httpx.Response, secrets: Secrets) -> list[tuple[bytes, bytes]]:
    """Those that are passed back, without secrets."""
    named = response.headers.get("connection", "").lower().encode()
    dropped = _OF_ONE_CONNECTION | {word.strip() for word in named.split(b",")}
    passed = [(name.lower(), value) for name, value in response.headers.raw if name.lower() not in dropped]
    return [(name, masked(value, secrets)) for name, value in passed]


def _error_body(response: httpx.Response, access: Access) -> bytes:
    """Raises `Refused`."""
    body = bytearray()
    try:
        for data in response.iter_bytes():
            body += data
            if len(body) > MAX_ERROR_BYTES:
                said = f"answered with status {response.status_code} and more than {MAX_ERROR_BYTES:,} bytes"
                raise not_answered(access, said)
    except httpx.HTTPError as error:
        raise not_answered(access, f"broke off its answer of status {response.status_code}: {error}") from None
    return masked(bytes(body), access.secrets)


def _is_stream(response: httpx.Response) -> bool:
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower() == "text/event-stream"


def _has_declared_end(response: httpx.Response) -> bool:
    """Without one, the end of an answer and the break of a connection look the same."""
    return "content-length" in response.headers or "transfer-encoding" in response.headers
