"""An internet of the tests' own: servers in a network namespace, which only this machine reaches.

A pair of interfaces leads there; it and the namespace are gone with the process. Nothing outside is ever addressed.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.stack import eventually
from tests.integration.sandbox.git_server import make_certificate

SERVER = Path(__file__).with_name("server.py")
Json = dict[str, Any]


@dataclass
class Internet:
    """What there is, and who was contacted. `network` is what an operator would allow; `metadata` lies outside it."""

    network: str
    allowed: str
    evil: str
    metadata: str
    gateway: str
    _contacts: list[Json] = field(default_factory=list)

    def names(self) -> dict[str, list[str]]:
        """The names that lead there, and the addresses behind them."""
        return {
            "api.allowed.test": [self.allowed],
            "www.allowed.test": [self.allowed],
            "other.test": [self.allowed],
            "evil.test": [self.evil],
            "allowed.test.evil.test": [self.evil],
            "evilallowed.test": [self.evil],
            "metadata.allowed.test": [self.metadata],
            "loopback.allowed.test": ["127.0.0.1"],
            "gateway.allowed.test": [self.gateway],
            "mixed.allowed.test": [self.allowed, "127.0.0.1"],
            "silent.allowed.test": [self.allowed],
        }

    def lookup(self, host: str, _port: int) -> Sequence[str]:
        """A resolver that knows these names and no others."""
        found = self.names().get(host)
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found

    def contacts(self, server: str | None = None) -> list[Json]:
        """Who was contacted so far, in order."""
        return [one for one in list(self._contacts) if server in (None, one.get("server"))]


@contextmanager
def fake_internet(directory: Path) -> Iterator[Internet]:
    """Start it; everything is gone afterwards."""
    make_certificate(directory)
    one, other = 200 + os.getpid() % 50, os.getpid() // 50 % 250
    net = f"10.{one}.{other}"
    there = Internet(f"{net}.0/24", f"{net}.1", f"{net}.2", f"10.{one}.251.3", f"{net}.254")
    inside, outside = f"tsi{os.getpid()}", f"tso{os.getpid()}"
    waiting = 'read go; exec "$@"'
    pairs = [f"allowed={there.allowed}", f"evil={there.evil}", f"metadata={there.metadata}"]
    argv = ["unshare", "--net", "/bin/sh", "-c", waiting, "sh", sys.executable, str(SERVER), str(directory), *pairs]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            eventually("the namespace is made", lambda: _own_namespace(process.pid), 30)
            _ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", str(process.pid))
            for address in (there.allowed, there.evil):
                _ip("address", "add", f"{address}/24", "dev", inside, within=process.pid)
            _ip("address", "add", f"{there.metadata}/32", "dev", inside, within=process.pid)
            _ip("link", "set", inside, "up", within=process.pid)
            _ip("link", "set", "lo", "up", within=process.pid)
            _ip("address", "add", f"{there.gateway}/24", "dev", outside)
            _ip("link", "set", outside, "up")
            _ip("route", "add", f"{there.metadata}/32", "via", there.allowed)
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            reader = threading.Thread(target=_read, args=(process, there), daemon=True)
            reader.start()
            eventually("its servers are there", there.contacts, 60)
            there._contacts.clear()
            yield there
        finally:
            process.kill()
            process.wait()
            reader.join()


def _read(process: subprocess.Popen[str], there: Internet) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        there._contacts.append(json.loads(line))


def _own_namespace(process_id: int) -> bool:
    return Path(f"/proc/{process_id}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()


def _ip(*words: str, within: int | None = None) -> None:
    prefix = ["nsenter", "--target", str(within), "--net"] if within else []
    subprocess.run([*prefix, "ip", *words], check=True)
