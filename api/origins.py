"""Which browser pages may drive this API: its own, and those the operator names (contract §9)."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from flask import Response, g, request

from api.errors import Refusal
from api.parts import parts
from orchestrator.settings import LOOPBACK

READABLE_HEADERS = (
    "Content-Disposition, Content-Range, ETag, Location, Retry-After, WWW-Authenticate, X-Checksum-SHA256, "
    "X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-Request-Id"
)
SENDABLE_HEADERS = (
    "Authorization, Content-Type, Idempotency-Key, If-None-Match, If-Range, Last-Event-ID, Range, X-Request-Id"
)
PREFLIGHT_SECONDS = "600"


def check() -> None:
    """Refuse a request that a page of a foreign origin makes through a visitor's browser: 403 `forbidden`."""
    _check_host()
    origin = request.headers.get("Origin")
    if origin is None or origin in {f"{g.peer.scheme}://{host}" for host in _own_hosts()} or origin in _allowed():
        return
    message = f"requests from pages of {origin[:200]} are not accepted; name it in SANDBOX_ALLOWED_ORIGINS"
    raise Refusal(403, "forbidden", message)


def _own_hosts() -> set[str]:
    """What was called, under either of the two ports: a page of the one opens its WebSocket on the other."""
    settings = parts().product.settings
    ports = {settings.port, settings.stream_port}
    name, colon, port = request.host.rpartition(":")
    if colon and port.isdigit() and int(port) in ports:
        return {request.host, *(f"{name}:{one}" for one in ports if one)}
    return {request.host}


def _check_host() -> None:
    """Refuse foreign host names, unless only tokens get in and the operator named no hosts.

    A page whose name is re-bound to our address would pass as our own, and on an open API that is all it needs: also on
    an address that only a firewall or a container keeps from strangers. It has no token to send. An address cannot be
    re-bound, so only names are looked at.
    """
    settings = parts().product.settings
    try:
        name = urlsplit(f"//{request.host}").hostname or ""
    except ValueError:  # such as an unclosed bracket
        name = ""
    named = {*settings.allowed_hosts, *(urlsplit(one).hostname for one in _allowed())}
    if name in {*LOOPBACK, settings.host.lower(), *named} or _is_address(name):
        return
    if not settings.is_local and not settings.allowed_hosts and parts().callers.is_closed:
        return
    message = (
        f"this server does not answer as {request.host[:200]!r}; call it as localhost or by its address, or name "
        "it in SANDBOX_ALLOWED_HOSTS"
    )
    raise Refusal(403, "forbidden", message)


def admit(response: Response) -> None:
    """Let a page of an allowed origin read the answer; its browser asks for that permission (Fetch, CORS)."""
    origin = request.headers.get("Origin")
    if origin is None or origin not in _allowed():
        return
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = READABLE_HEADERS
    response.vary.add("Origin")
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = response.headers.get("Allow", "GET")
        response.headers["Access-Control-Allow-Headers"] = SENDABLE_HEADERS
        response.headers["Access-Control-Max-Age"] = PREFLIGHT_SECONDS


def _allowed() -> tuple[str, ...]:
    return parts().product.settings.allowed_origins


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
