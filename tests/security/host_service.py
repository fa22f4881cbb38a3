"""A service of this host on all its addresses, which no sandbox may reach."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

GREETING = b"REACHED\n"


@dataclass
class HostService:
    """It listens on `port` of `addresses` (this host's, without loopback) and counts who came."""

    port: int
    addresses: tuple[str, ...]
    visitors: list[str] = field(default_factory=list)


@contextmanager
def host_service() -> Iterator[HostService]:
    server = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    service = HostService(server.getsockname()[1], own_addresses())

    def serve() -> None:
        while True:
            try:
                client, address = server.accept()
            except OSError:
                return
            service.visitors.append(address[0])
            with client:
                client.sendall(GREETING)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def own_addresses() -> tuple[str, ...]:
    """All addresses of this host now, but loopback and those that hold on one link only."""
    listed = json.loads(subprocess.run(["ip", "-json", "address"], check=True, capture_output=True).stdout)
    found = [one for link in listed for one in link["addr_info"]]
    return tuple(one["local"] for one in found if one["scope"] == "global")
