"""An image registry on loopback that holds a test's images: it may ask for a password, be slow, and lie."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.servers.http import serving

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Registry:
    """Serves `images` (name:tag → manifest) and `blobs` (digest → bytes).

    `account` (USER:PASSWORD): who may read, else everybody. `pause_seconds`: between two pieces of a layer. `asked`:
    every request's path, and whether it came with the right password. `begun` is set when a layer or a configuration
    is being sent, `dropped` when somebody does not take the rest.
    """

    account: str | None = None
    pause_seconds: float = 0.0
    piece_bytes: int = 256 << 10
    images: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, bool]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    dropped: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> Iterator[Registry]:
        class Bound(_Handler):
            registry = self

        with serving(Bound, self.over) as self.port:
            yield self

    def add(self, reference: str, config: bytes, layers: list[bytes]) -> str:
        """Hold an image under NAME:TAG; return the digest of its manifest."""
        parts = [(CONFIG_TYPE, config), *((LAYER_TYPE, layer) for layer in layers)]
        described = [{"mediaType": kind, "size": len(data), "digest": digest_of(data)} for kind, data in parts]
        manifest = {
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": described[0], "layers": described[1:],
        }  # fmt: skip
        self.blobs |= {digest_of(data): data for _, data in parts}
        self.images[reference] = json.dumps(manifest).encode()
        return digest_of(self.images[reference])

    def add_small(self, reference: str, says: str, padding_bytes: int = 0) -> str:
        """Hold an image with a shell and the file /says; return the digest of its manifest. It is like no other one."""
        layer = small_layer(says, padding_bytes)
        config = {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
            "os": "linux",
            "config": {"Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
        }
        return self.add(reference, json.dumps(config).encode(), [layer])


def small_layer(says: str, padding_bytes: int) -> bytes:
    """The host's own shell with what it needs, as a tar archive."""
    shell = Path("/bin/dash").resolve()
    listed = subprocess.run(["ldd", str(shell)], capture_output=True, check=True, text=True).stdout
    needed = {word for word in listed.split() if word.startswith("/")}
    files = {"bin/sh": shell.read_bytes(), "says": says.encode(), "padding": os.urandom(16 + padding_bytes)}
    files |= {name.lstrip("/"): Path(name).read_bytes() for name in needed}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


class _Handler(BaseHTTPRequestHandler):
    registry: Registry

    def handle_any(self) -> None:
        allowed = self._is_allowed()
        self.registry.asked.append((self.path, allowed))
        kind, reference = self.path.split("/")[-2:]
        if not allowed:
            self._send(401, b"{}", "application/json", challenge=True)
        elif kind == "blobs" and reference in self.registry.blobs:
            self._send(200, self.registry.blobs[reference], "application/octet-stream", reference, slowly=True)
        elif kind == "manifests" and (manifest := self._manifest(reference)) is not None:
            self._send(200, manifest, MANIFEST_TYPE, digest_of(manifest))
        elif self.path == "/v2/":
            self._send(200, b"{}", "application/json")
        else:
            self._send(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]}', "application/json")

    do_GET = do_HEAD = handle_any  # noqa: N815 - the names that http.server looks for

    def _is_allowed(self) -> bool:
        if self.registry.account is None:
            return True
        given = self.headers.get("Authorization", "")
        return given == f"Basic {base64.b64encode(self.registry.account.encode()).decode()}"

    def _manifest(self, reference: str) -> bytes | None:
        name = self.path.removeprefix("/v2/").removesuffix(f"/manifests/{reference}")
        found = self.registry.images.get(f"{name}:{reference}")
        if found is None and reference.startswith("sha256:"):
            # A registry that lies answers with what it has, whatever digest was asked for.
            known = [one for held, one in self.registry.images.items() if held.startswith(f"{name}:")]
            found = next((one for one in known if digest_of(one) == reference), known[0] if known else None)
        return found

    def _send(
        self, status: int, body: bytes, kind: str, digest: str | None = None, *, challenge: bool = False,
        slowly: bool = False,
    ) -> None:  # fmt: skip
        self.send_response(status)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if challenge:
            self.send_header("WWW-Authenticate", 'Basic realm="registry of a test"')
        if digest:
            self.send_header("Docker-Content-Digest", digest)
        self.end_headers()
        if self.command == "HEAD":
            return
        if slowly:
            self._send_slowly(body)
        else:
            self.wfile.write(body)

    def _send_slowly(self, body: bytes) -> None:
        registry = self.registry
        registry.begun.set()
        try:
            for start in range(0, len(body), registry.piece_bytes):
                self.wfile.write(body[start : start + registry.piece_bytes])
                if registry.over.wait(registry.pause_seconds):
                    break
        except OSError:
            registry.dropped.set()
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        return
