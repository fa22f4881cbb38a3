"""An image registry on loopback that sends a layer so slowly that it never ends."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.servers.http import serving

CONFIG = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
CONFIG_DIGEST = f"sha256:{hashlib.sha256(CONFIG).hexdigest()}"
LAYER_DIGEST = f"sha256:{'0' * 64}"
LAYER_BYTES = 1 << 30
PAUSE_SECONDS = 0.05
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": len(CONFIG),
            "digest": CONFIG_DIGEST,
        },
        "layers": [
            {
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "size": LAYER_BYTES,
                "digest": LAYER_DIGEST,
            }
        ],
    }
).encode()


class SlowRegistry:
    """`begun` is set when a layer is being sent, `dropped` when the engine no longer takes it."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.dropped = threading.Event()
        self.over = threading.Event()
        self.port = 0

    @property
    def image(self) -> str:
        return f"127.0.0.1:{self.port}/slow:1"

    @contextmanager
    def running(self) -> Iterator[SlowRegistry]:
        class Bound(_Handler):
            registry = self

        with serving(Bound, self.over) as self.port:
            yield self


class _Handler(BaseHTTPRequestHandler):
    registry: SlowRegistry

    def handle_any(self) -> None:
        if self.path.endswith(LAYER_DIGEST):
            self._send_layer()
        elif self.path.endswith(CONFIG_DIGEST):
            self._send(CONFIG, "application/octet-stream", CONFIG_DIGEST)
        elif "/manifests/" in self.path:
            self._send(MANIFEST, MANIFEST_TYPE, f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}")
        else:
            self._send(b"{}", "application/json")

    do_GET = do_HEAD = handle_any  # noqa: N815 - the names that http.server looks for

    def _send(self, body: bytes, kind: str, digest: str | None = None) -> None:
        self._head(kind, len(body), digest)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_layer(self) -> None:
        self._head("application/octet-stream", LAYER_BYTES, LAYER_DIGEST)
        self.close_connection = True
        self.registry.begun.set()
        try:
            while not self.registry.over.wait(PAUSE_SECONDS):
                self.wfile.write(b"\0" * 512)
        except OSError:
            self.registry.dropped.set()

    def _head(self, kind: str, length: int, digest: str | None) -> None:
        self.send_response(200)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        if digest:
            self.send_header("Docker-Content-Digest", digest)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return
