"""What a sandbox asks of the model API: one request's head, read strictly (pure).

A head that could be read in two ways is `Refused`, and its connection is closed: where the next request begins is not
known then. One that is clear and asks for something else has no route.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

MAX_BODY_BYTES = 64 << 20
LETS_THROUGH = "POST /v1/messages, POST /v1/messages/count_tokens, GET /v1/models and GET /v1/models/{id}"

_FIRST = re.compile(rb"([A-Z]{1,20}) (/[\x21-\x7e]*) HTTP/1\.1")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_PARAMETER = r"[A-Za-z0-9_]{1,64}=[A-Za-z0-9_.:-]{0,128}"
_QUERY = rf"(?:\?{_PARAMETER}(?:&{_PARAMETER}){{0,15}})?"
_PASSED_ON = frozenset((b"accept", b"content-type", b"user-agent", b"x-app"))
_PASSED_ON_PREFIXES = (b"anthropic-", b"x-claude-code-", b"x-stainless-")


class Route(StrEnum):
    """What the relay does with a request: pass it on, or, for `ROOT`, answer it."""

    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"
    MODELS = "models"
    ROOT = "root"


_ROUTES = (
    (Route.MESSAGES, re.compile(rf"POST /v1/messages{_QUERY}")),
    (Route.COUNT_TOKENS, re.compile(rf"POST /v1/messages/count_tokens{_QUERY}")),
    (Route.MODELS, re.compile(rf"GET /v1/models(?:/[A-Za-z0-9][A-Za-z0-9._:@-]{{0,127}})?{_QUERY}")),
    (Route.ROOT, re.compile(rf"HEAD /{_QUERY}")),
)


class Refused(Exception):
    """A request that the relay answers itself: HTTP status, the API's type of error, and a message for people."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. `target` is path and query; `headers` are those that are passed on. No `route`: it is not let through.

    `is_last`: the client wants the connection closed. `awaits_continue`: it sends the body when it is told to.
    """

    route: Route | None
    method: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...]
    body_bytes: int
    is_last: bool
    awaits_continue: bool


def parse(head: bytes) -> Asked:
    """Read a request's head (without the empty line that ends it). Raises `Refused`."""
    first, *lines = head.split(b"\r\n")
    asked = _FIRST.fullmatch(first)
    if asked is None:
        raise malformed(f"only requests of HTTP/1.1 for a path are understood; this relay lets {LETS_THROUGH} through")
    method, target = asked[1].decode(), asked[2].decode()
    headers = [_header(line) for line in lines]
    return Asked(
        route=next((route for route, pattern in _ROUTES if pattern.fullmatch(f"{method} {target}")), None),
        method=method,
        target=target,
        headers=tuple((name, value) for name, value in headers if _is_passed_on(name)),
        body_bytes=_body_bytes(method, headers),
        is_last=b"close" in _words(headers, b"connection"),
        awaits_continue=_awaits_continue(headers),
    )


def not_let_through(asked: Asked) -> Refused:
    """What is said of a request without a route."""
    shown = asked.target if len(asked.target) <= 200 else f"{asked.target[:200]}…"
    return Refused(404, "not_found_error", f"{asked.method} {shown} is not let through: this relay passes on "
                   f"{LETS_THROUGH} only")  # fmt: skip


def malformed(why: str) -> Refused:
    """A request that is not understood in exactly one way."""
    return Refused(400, "invalid_request_error", f"the request is malformed: {why}")


def _header(line: bytes) -> tuple[bytes, bytes]:
    found = _HEADER.fullmatch(line)
    if found is None:
        raise malformed("a line of its head is no header")
    return found[1].lower(), found[2].rstrip(b" \t")


def _is_passed_on(name: bytes) -> bool:
    return name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)


def _words(headers: list[tuple[bytes, bytes]], wanted: bytes) -> set[bytes]:
    return {word.strip().lower() for name, value in headers if name == wanted for word in value.split(b",")}


def _body_bytes(method: str, headers: list[tuple[bytes, bytes]]) -> int:
    """Two readings of where a body ends would let a second request through: only one plain length is taken."""
    lengths = [value for name, value in headers if name == b"content-length"]
    if any(name == b"transfer-encoding" for name, _ in headers):
        if lengths:
            raise malformed("it has both Content-Length and Transfer-Encoding")
        raise Refused(411, "invalid_request_error", "a body without Content-Length is not taken: send its length")
    if len(lengths) > 1 or not all(_LENGTH.fullmatch(one) for one in lengths):
        raise malformed("the length of its body is not plain")
    if not lengths and method == "POST":
        raise Refused(411, "invalid_request_error", "a POST without Content-Length is not taken: send its length")
    length = int(lengths[0]) if lengths else 0
    if length and method != "POST":
        raise malformed(f"a {method} with a body is not taken")
    if length > MAX_BODY_BYTES:
        raise Refused(413, "request_too_large", f"the body has {length:,} bytes: at most {MAX_BODY_BYTES:,} are taken")
    return length


def _awaits_continue(headers: list[tuple[bytes, bytes]]) -> bool:
    expected = _words(headers, b"expect")
    if expected - {b"100-continue"}:
        raise malformed("it expects something other than 100-continue")
    return bool(expected)
