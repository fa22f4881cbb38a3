"""The relay's side of HTTP towards a sandbox: heads, chunks, and errors in the shape of the model API (pure)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from http import HTTPStatus

from workers.model_api.request import Refused

Headers = Iterable[tuple[bytes, bytes]]
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
JSON = (b"content-type", b"application/json")


def head(status: int, headers: Headers, *, is_last: bool) -> bytes:
    """The head of an answer; `is_last` announces that the connection is closed behind it."""
    reason = HTTPStatus(status).phrase if status in _KNOWN else ""
    connection = (b"connection", b"close" if is_last else b"keep-alive")
    lines = [name + b": " + value for name, value in (*headers, connection)]
    return b"\r\n".join([f"HTTP/1.1 {status} {reason}".encode(), *lines]) + b"\r\n\r\n"


def whole(status: int, headers: Headers, body: bytes, *, is_last: bool) -> bytes:
    """An answer whose body is known."""
    return head(status, (*headers, (b"content-length", b"%d" % len(body))), is_last=is_last) + body


def chunk(data: bytes) -> bytes:
    """A piece of a body whose length is not known; never empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def error(refused: Refused, *, is_last: bool) -> bytes:
    """A refusal as the API would write it, so that its clients show the message."""
    said = {"type": "error", "error": {"type": refused.kind, "message": str(refused)}}
    return whole(refused.status, (JSON,), json.dumps(said).encode(), is_last=is_last)


_KNOWN = frozenset(HTTPStatus)
