"""The program that tries to get out of a sandbox. It is run there with a list of attempts, and prints what each got.

An attempt is a list: its kind and what that needs. What it got is one line of text.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys

PROXY = ("127.0.0.1", 3128)
SECONDS = 20


def tcp(address: str, port: int) -> str:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as one:
        one.settimeout(3)
        one.connect((address, port))
        one.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return read(one)


def udp(address: str, port: int) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(3)
        one.connect((address, port))
        one.send(b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04evil\x04test\x00\x00\x01\x00\x01")
        return repr(one.recv(2000))


def name(host: str) -> str:
    return repr(socket.getaddrinfo(host, 443))


def made(family: str, kind: str, protocol: int) -> str:
    numbers = getattr(socket, family), getattr(socket, kind)
    with socket.socket(*numbers, protocol) as one:
        one.settimeout(3)
        if family == "AF_INET":
            one.connect((sys.argv[2], 0))
            one.send(b"\x08\x00\xf7\xff\x00\x00\x00\x00")
            return repr(one.recv(2000))
        return "REACHED: a socket of this family was made"


def proxy(text: str) -> str:
    """Bytes to the proxy, as they are; `latin-1`, so that any byte can be said."""
    with socket.create_connection(PROXY, SECONDS) as one:
        one.sendall(text.encode("latin-1"))
        return read(one)


def tunnel(authority: str, first: str) -> str:
    """CONNECT, then bytes of no TLS."""
    with opened(authority) as one:
        one.sendall(first.encode("latin-1"))
        one.shutdown(socket.SHUT_WR)
        return read(one)


def https(authority: str, sni: str | None, host: str) -> str:
    """CONNECT, TLS with this server name (None: without), a request with this Host."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with opened(authority) as one, context.wrap_socket(one, server_hostname=sni) as inside:
        inside.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return read(inside)


def opened(authority: str) -> socket.socket:
    one = socket.create_connection(PROXY, SECONDS)
    one.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode("latin-1"))
    answer = b""
    while b"\r\n\r\n" not in answer:
        more = one.recv(1)
        if not more:
            raise OSError(f"not established: {answer!r}")
        answer += more
    if not answer.startswith(b"HTTP/1.1 200"):
        raise OSError(f"not established: {answer.decode()} {read(one)}")
    return one


def read(one: socket.socket) -> str:
    one.settimeout(SECONDS)
    found = b""
    while True:
        more = one.recv(65536)
        if not more:
            return found.decode("latin-1") or "closed"
        found += more


def main() -> None:
    kinds = {one.__name__: one for one in (tcp, udp, name, made, proxy, tunnel, https)}
    results = []
    for kind, *needs in json.loads(sys.argv[1]):
        try:
            results.append(kinds[kind](*needs))
        except (OSError, ValueError, AttributeError) as error:
            results.append(f"{type(error).__name__}: {error}")
    print(json.dumps(results))


main()
