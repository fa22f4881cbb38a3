"""A container's log as a plain socket, which a process without the SDK can read on.

Asked for in HTTP/1.0: the engine then sends the log as it is, in no chunks, and closes at its end.
"""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from docker.utils import parse_host

from workers.sandbox.docker.connection import TIMEOUT_SECONDS, options
from workers.sandbox.port import EngineUnavailable, LogUnavailable, SandboxGone

HEADER_MAX_BYTES = 64 << 10
OK, NOT_FOUND = 200, 404
HTTP_PORT = 2375


def follow_log(api_version: str, sandbox: str) -> int:
    """Return the descriptor of a socket that stands at the first byte of the log.

    Raises `SandboxGone`, `LogUnavailable`, `EngineUnavailable` when the engine hangs up, OSError.
    """
    engine = _connect()
    try:
        path = f"/v{api_version}/containers/{sandbox}/logs?follow=1&stdout=1&stderr=1"
        engine.sendall(f"GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
        _check(sandbox, _header(engine))
        engine.settimeout(None)
        return engine.detach()
    finally:
        engine.close()


def _connect() -> socket.socket:
    url = str(parse_host(options()["base_url"]))
    if url.startswith("http+unix://"):
        engine = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            engine.settimeout(TIMEOUT_SECONDS)
            engine.connect(url.removeprefix("http+unix://"))
        except BaseException:
            engine.close()
            raise
        return engine
    host = urlsplit(url)
    if host.scheme != "http" or host.hostname is None:
        raise LogUnavailable(f"the log cannot be followed over {url}; set DOCKER_HOST to unix:// or tcp://")
    return socket.create_connection((host.hostname, host.port or HTTP_PORT), TIMEOUT_SECONDS)


def _header(engine: socket.socket) -> bytes:
    """Read the answer's header and not one byte more."""
    header = b""
    while not header.endswith(b"\r\n\r\n"):
        ahead = engine.recv(HEADER_MAX_BYTES, socket.MSG_PEEK)
        end = (header + ahead).find(b"\r\n\r\n")
        part = engine.recv(len(ahead) if end < 0 else end + 4 - len(header))
        header += part
        if not part or len(header) > HEADER_MAX_BYTES:
            raise EngineUnavailable("the Docker Engine broke off its answer to a request for a log; see its log")
    return header


def _check(sandbox: str, header: bytes) -> None:
    status_line = header.partition(b"\r\n")[0].decode("latin-1")
    status = int(status_line.split()[1])
    if status == NOT_FOUND:
        raise SandboxGone(f"the engine knows no sandbox {sandbox}")
    if status != OK:
        raise LogUnavailable(f"the engine has no log of sandbox {sandbox} to read ({status_line}); its driver has none")
