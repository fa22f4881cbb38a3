"""The bypass list of isolation-and-faults.md §1.3, and what each attempt must get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.security.egress.internet import Internet

ALLOWED_HOSTS = ("*.allowed.test", "www.allowed.test:22", "silent.allowed.test:8443")
NO_WAY = r"OSError: \[Errno (101|99)\]|Cannot assign|Network is unreachable"
"""ENETUNREACH at once, or no such address: there is no interface but the loopback."""


@dataclass(frozen=True)
class Try:
    """`got` is a pattern of what the sandbox sees; `rule` is how the report names it, if the proxy was asked."""

    name: str
    attempt: list[Any]
    got: str
    rule: str | None = None


def bypasses(there: Internet, host_port: int) -> list[Try]:
    """Every one of them must fail. `host_port` is a service of this host on all its addresses."""
    return [
        *_around_the_proxy(there, host_port),
        *_by_addresses(there),
        *_by_spelling(),
        *_by_names_that_lead_elsewhere(),
        *_inside_tls(),
        *_inside_http(),
    ]


def _around_the_proxy(there: Internet, host_port: int) -> list[Try]:
    return [
        Try("raw tcp to an allowed host", ["tcp", there.allowed, 443], NO_WAY),
        Try("raw tcp to any host", ["tcp", there.evil, 80], NO_WAY),
        Try("raw udp", ["udp", there.evil, 9999], NO_WAY),
        Try("quic", ["udp", there.allowed, 443], NO_WAY),
        Try("icmp", ["made", "AF_INET", "SOCK_DGRAM", 1], rf"PermissionError|{NO_WAY}"),
        Try("raw ip", ["made", "AF_INET", "SOCK_RAW", 1], "PermissionError"),
        Try("dns to a server", ["udp", there.evil, 53], NO_WAY),
        Try("dns of the engine", ["udp", "127.0.0.11", 53], "ConnectionRefusedError"),
        Try("a name, by the system", ["name", "api.allowed.test"], "gaierror"),
        Try("metadata service", ["tcp", there.metadata, 80], NO_WAY),
        Try("the host, by its end of our network", ["tcp", there.gateway, host_port], NO_WAY),
        Try("the host, by docker's bridge", ["tcp", "172.17.0.1", host_port], NO_WAY),
        Try("the host's loopback", ["tcp", "127.0.0.1", host_port], "ConnectionRefusedError"),
        Try("ipv6", ["tcp", "2001:db8::1", 80], rf"{NO_WAY}|Errno 97"),
        Try("af_packet", ["made", "AF_PACKET", "SOCK_RAW", 3], "PermissionError"),
        Try("af_vsock", ["made", "AF_VSOCK", "SOCK_STREAM", 0], "PermissionError|OSError|not supported"),
    ]


def _by_addresses(there: Internet) -> list[Try]:
    forbidden = "HTTP/1.1 403 Forbidden"
    hosts = {
        "address": there.evil, "allowed address": there.allowed, "loopback": "127.0.0.1", "decimal": "2130706433",
        "hexadecimal": "0x7f000001", "short": "127.1", "octal": "0177.0.0.1", "mixed hexadecimal": "0x7f.1",
        "ipv6": "[::1]", "mapped": "[::ffff:127.0.0.1]", "localhost": "localhost",
    }  # fmt: skip
    tries = []
    for what, host in hosts.items():
        tries.append(Try(f"{what} by CONNECT", ["proxy", f"CONNECT {host}:443 HTTP/1.1\r\n\r\n"], forbidden, "syntax"))
        tries.append(Try(f"{what} by http", ["proxy", f"GET http://{host}/ HTTP/1.1\r\n\r\n"], forbidden, "syntax"))
    for host in ("127.0.0.1", "localhost"):
        asked = f"CONNECT {host}:3128 HTTP/1.1\r\n\r\n"
        tries.append(Try(f"the proxy through itself ({host})", ["proxy", asked], forbidden, "syntax"))
    return tries


def _by_spelling() -> list[Try]:
    refused = {
        "another host": ("evil.test:443", "not_allowed"),
        "allowed name as a prefix": ("allowed.test.evil.test:443", "not_allowed"),
        "allowed name as a suffix": ("evilallowed.test:443", "not_allowed"),
        "the wildcard's own name": ("allowed.test:443", "not_allowed"),
        "another port": ("api.allowed.test:22", "port"),
        "mail": ("api.allowed.test:25", "port"),
        "user information": ("api.allowed.test@evil.test:443", "syntax"),
        "user information before an allowed host": ("evil.test@api.allowed.test:443", "syntax"),
        "backslash": ("evil.test\\.allowed.test:443", "syntax"),
        "NUL": ("evil.test\0.allowed.test:443", "syntax"),
        "two dots": ("evil.test..allowed.test:443", "syntax"),
        "percent": ("evil.test%2f.allowed.test:443", "syntax"),
        "slash": ("evil.test/.allowed.test:443", "syntax"),
        "hash": ("evil.test#.allowed.test:443", "syntax"),
        "no ASCII": ("\xe9vil.allowed.test:443", "syntax"),
        "line feed": ("evil.test\n.allowed.test:443", "syntax"),
    }
    return [
        Try(what, ["proxy", f"CONNECT {authority} HTTP/1.1\r\n\r\n"], "HTTP/1.1 403 Forbidden", rule)
        for what, (authority, rule) in refused.items()
    ]


def _by_names_that_lead_elsewhere() -> list[Try]:
    hosts = ("metadata", "loopback", "gateway", "mixed", "flip")
    return [
        Try(
            f"a name that leads to {host}",
            ["proxy", f"GET http://{host}.allowed.test/ HTTP/1.1\r\n\r\n"],
            "HTTP/1.1 403 Forbidden",
            "address",
        )
        for host in hosts
    ]


def _inside_tls() -> list[Try]:
    cut = r"^closed$|SSLZeroReturnError|SSLEOFError|ConnectionResetError|SSLError|UNEXPECTED_EOF"
    return [
        Try(
            "another server name in TLS", ["https", "api.allowed.test:443", "evil.test", "api.allowed.test"], cut, "sni"
        ),
        Try("another allowed name in TLS", ["https", "api.allowed.test:443", "www.allowed.test", "x"], cut, "sni"),
        Try("no server name in TLS", ["https", "api.allowed.test:443", None, "api.allowed.test"], cut, "sni"),
        Try(
            "http in a tunnel",
            ["tunnel", "api.allowed.test:443", "GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n"],
            cut,
            "tls",
        ),
        Try("ssh in a tunnel", ["tunnel", "api.allowed.test:443", "SSH-2.0-x\r\n"], cut, "tls"),
        Try(
            "a tunnel to the port for plain http",
            ["proxy", "CONNECT api.allowed.test:80 HTTP/1.1\r\n\r\n"],
            "403",
            "syntax",
        ),
        Try(
            "plain http to the port for TLS",
            ["proxy", "GET http://api.allowed.test:443/ HTTP/1.1\r\n\r\n"],
            "403",
            "tls",
        ),
    ]


def _inside_http() -> list[Try]:
    post = "POST http://api.allowed.test/ HTTP/1.1\r\n"
    second = "GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n"
    return [
        Try("chunked", ["proxy", f"{post}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{second}"], "403", "syntax"),
        Try(
            "length and chunked",
            ["proxy", f"{post}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{second}"],
            "403",
            "syntax",
        ),
        Try(
            "two lengths", ["proxy", f"{post}Content-Length: 0\r\nContent-Length: 50\r\n\r\n{second}"], "403", "syntax"
        ),
        Try("origin form", ["proxy", "GET / HTTP/1.1\r\nHost: api.allowed.test\r\n\r\n"], "403", "syntax"),
        Try("a page of the proxy", ["proxy", "GET cache_object://localhost/ HTTP/1.1\r\n\r\n"], "403", "syntax"),
        Try("another scheme", ["proxy", "GET ftp://api.allowed.test/ HTTP/1.1\r\n\r\n"], "403", "syntax"),
    ]
