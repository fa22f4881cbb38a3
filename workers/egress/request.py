"""What a sandbox's proxy is asked: one request's head, read strictly (pure; isolation-and-faults.md §1.2).

`CONNECT host:port` is a tunnel. Plain HTTP comes as `GET http://host/path` and is written anew: with the URL's
host, without what concerns one connection only, and with a body of exactly the length that was declared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.contacts import EgressRule
from workers.egress.denial import Denied

_HOST = rb"([A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])"
_CONNECT = re.compile(rb"CONNECT " + _HOST + rb":([0-9]{1,5}) HTTP/1\.[01]")
_METHODS = rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)"
_FORWARD = re.compile(_METHODS + rb" http://" + _HOST + rb"(?::([0-9]{1,5}))?(/[\x21-\x7e]*) HTTP/1\.[01]")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_LAST_PORT = 65535
_HTTP = 80

_OF_ONE_CONNECTION = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"te", b"trailer", b"upgrade", b"expect", b"host",
     b"proxy-authorization", b"proxy-authenticate", b"content-length")
)  # fmt: skip
"""Not passed on. `Host` and `Content-Length` are written anew."""
_ADVICE = "let an HTTP client make the request, with HTTP_PROXY and HTTPS_PROXY as the sandbox sets them"


@dataclass(frozen=True, slots=True)
class Tunnel:
    """Bytes both ways."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Forward:
    """One request: its head as it is sent on, and how many bytes of body follow it."""

    host: str
    port: int
    head: bytes
    body_bytes: int


def parse(head: bytes) -> Tunnel | Forward:
    """Read a request's head (without the empty line that ends it). Raises `Denied`."""
    first, *lines = head.split(b"\r\n")
    tunnel = _CONNECT.fullmatch(first)
    if tunnel:
        return Tunnel(_name(tunnel[1]), _port(tunnel[2]))
    asked = _FORWARD.fullmatch(first)
    if asked is None:
        raise unreadable("only CONNECT, and plain requests (GET, HEAD, POST, …) of http:// URLs, are passed on")
    method, host, port, path = asked.groups()
    headers = [_header(line) for line in lines]
    body_bytes = _body_bytes(headers)
    authority = host if port is None else host + b":" + port
    written = [method + b" " + path + b" HTTP/1.1", b"Host: " + authority, b"Connection: close"]
    dropped = _dropped(headers)
    written += [name + b": " + value for name, value in headers if name.lower() not in dropped]
    if body_bytes or method in (b"POST", b"PUT", b"PATCH"):
        written.append(b"Content-Length: %d" % body_bytes)
    number = _HTTP if port is None else _port(port)
    return Forward(_name(host), number, b"\r\n".join(written) + b"\r\n\r\n", body_bytes)


def unreadable(why: str) -> Denied:
    """A request that is not understood in exactly one way."""
    return Denied(EgressRule.SYNTAX, why, _ADVICE)


def _name(host: bytes) -> str:
    return host.decode().strip("[]")


def _port(digits: bytes) -> int:
    port = int(digits)
    if not 0 < port <= _LAST_PORT:
        raise unreadable(f"{port} is no port")
    return port


def _header(line: bytes) -> tuple[bytes, bytes]:
    found = _HEADER.fullmatch(line)
    if found is None:
        raise unreadable("a line of the request's head is malformed")
    return found[1], found[2]


def _dropped(headers: list[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """A request may name more headers that concern its connection only."""
    named = [value for name, value in headers if name.lower() == b"connection"]
    return _OF_ONE_CONNECTION | {one.strip().lower() for value in named for one in value.split(b",")}


def _body_bytes(headers: list[tuple[bytes, bytes]]) -> int:
    """Two readings of where a body ends would let a second request through: only one plain length is taken."""
    if any(name.lower() == b"transfer-encoding" for name, _ in headers):
        raise unreadable("a body without a length (Transfer-Encoding) is not passed on")
    lengths = [value.strip() for name, value in headers if name.lower() == b"content-length"]
    if len(lengths) > 1 or not all(_LENGTH.fullmatch(one) for one in lengths):
        raise unreadable("the length of the request's body is not plain")
    return int(lengths[0]) if lengths else 0
