"""A server of the test's own that speaks the part of Vault's HTTP interface which KV version 2 is read by."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.servers.http import serving

TOKEN = "hvs.tests-own-token"


@dataclass
class Vault:
    """What it holds and how it behaves. `paths` are below the mount `secret`; None is a deleted version.

    `answers` are given instead, one a request, as (status, body). `requests` are the paths that arrived.
    """

    paths: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    forbidden: frozenset[str] = frozenset()
    token: str = TOKEN
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    port: int = 0

    def answer(self, path: str, token: str | None) -> tuple[int, bytes]:
        self.requests.append(path)
        if self.answers:
            return self.answers.pop(0)
        if token != self.token:
            return 403, b'{"errors":["permission denied"]}'
        if path == "/v1/auth/token/lookup-self":
            return 200, b'{"data":{"policies":["worker"]}}'
        name = path.removeprefix("/v1/secret/data/")
        if name in self.forbidden:
            return 403, b'{"errors":["1 error occurred: permission denied"]}'
        if name not in self.paths:
            return 404, b'{"errors":[]}'
        fields = self.paths[name]
        body = {"data": {"data": fields, "metadata": {"version": 1, "destroyed": False}}}
        return (404 if fields is None else 200), json.dumps(body).encode()


@contextmanager
def running_vault(vault: Vault, tls: ssl.SSLContext | None = None) -> Iterator[Vault]:
    """Serve `vault` on loopback until the block ends; its `port` is set."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

        def do_GET(self) -> None:
            status, body = vault.answer(self.path, self.headers.get("X-Vault-Token"))
            self.send_response(status)
            if status in (301, 307):
                self.send_header("Location", body.decode())
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler, threading.Event(), tls) as port:
        vault.port = port
        yield vault
