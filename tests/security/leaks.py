"""Looks for secrets wherever the product, the engine and the machine could have left one."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import httpx

from tests.e2e.stack import Product

CONTAINERS = Path("/var/lib/docker/containers")
WINDOW = 16


class Canaries:
    """Values to look for: in clear text, or base64 at any alignment; half of one is enough."""

    def __init__(self, values: Iterable[str]) -> None:
        self.values = tuple(values)
        self._needles: set[bytes] = set()
        for value in map(str.encode, self.values):
            # Not overlapping: whatever holds two windows' length of the value holds one of them whole.
            self._needles |= {value[at : at + WINDOW] for at in range(0, len(value) - WINDOW + 1, WINDOW // 2)}
            for shift in range(3):
                encoded = base64.b64encode(bytes(shift) + value)[4:-4]
                self._needles |= {encoded[at : at + WINDOW] for at in range(0, len(encoded) - WINDOW + 1, 8)}

    def in_bytes(self, data: bytes) -> list[str]:
        return [needle.decode() for needle in self._needles if needle in data]

    def below(self, directory: Path) -> list[str]:
        """Files below a directory that hold one."""
        argv = ["grep", "--recursive", "--files-with-matches", "--text", "--fixed-strings", "--file=-", str(directory)]
        found = subprocess.run(argv, input=b"\n".join(self._needles), capture_output=True, check=False)
        assert found.returncode in (0, 1, 2), found.stderr  # 2: a file was gone when its turn came
        return found.stdout.decode().splitlines()


class Recorder:
    """Records what passes by while the block runs: the engine's events, the arguments of all processes."""

    def __init__(self, canaries: Canaries) -> None:
        self._canaries = canaries
        self.samples = 0
        self.arguments: list[str] = []
        self.events = b""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        argv = ["docker", "events", "--format", "{{json .}}"]
        self._listening = subprocess.Popen(argv, stdout=subprocess.PIPE)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()
        self._listening.terminate()
        self.events = self._listening.communicate()[0]

    def _look(self) -> None:
        while not self._over.wait(0.02):
            arguments = b"\n".join(map(_read, Path("/proc").glob("[0-9]*/cmdline")))
            self.arguments += self._canaries.in_bytes(arguments)
            self.samples += 1


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process has ended
        return b""


def inspected(container: str) -> bytes:
    return subprocess.run(["docker", "inspect", container], check=True, capture_output=True).stdout


def answers(api: httpx.Client, task: str) -> dict[str, bytes]:
    """What every GET says of a task."""
    found: dict[str, bytes] = {}
    one = f"/tasks/{task}"
    paths = ["/tasks", one, f"{one}/artifacts", f"{one}/network", "/workers", "/health/ready"]
    formats = ("text", "ndjson", "raw")
    paths += [
        f"{one}/logs?attempt=all&format={form}&stream={name}" for form in formats for name in ("stdout", "stderr")
    ]
    paths += [f"{one}/logs?attempt=all", f"{one}/logs?attempt=all&format=ndjson", f"{one}/logs?attempt=all&format=sse"]
    for path in paths:
        answer = api.get(path)
        assert answer.status_code == httpx.codes.OK, (path, answer.text)
        found[path] = answer.content
    for artifact in json.loads(found[f"{one}/artifacts"])["artifacts"]:
        found[artifact["path"]] = artifact["path"].encode()
    found["/metrics"] = httpx.get(str(api.base_url).replace("/api/v1/", "/metrics")).content
    return found


def left_by(product: Product, api: httpx.Client, task: str, canaries: Canaries) -> list[str]:
    """Every place at which a canary is found after a task has ended: the list that must be empty."""
    places = [f"GET {path}" for path, body in answers(api, task).items() if canaries.in_bytes(body)]
    places += canaries.below(product.directory)
    places += canaries.below(CONTAINERS)
    if canaries.in_bytes(product.log_file.read_bytes()):
        places.append(str(product.log_file))
    return places
