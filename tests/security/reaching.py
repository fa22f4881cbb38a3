"""A program for sandboxes: it tries to reach addresses, and prints what came of each as one line of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

_PROGRAM = """
import json, os, socket, sys
def reach(host, port):
    try:
        with socket.create_connection((host, port), timeout=3) as one:
            return one.recv(100).decode()
    except OSError as error:
        return error.__class__.__name__
def by_proxy(host, port):
    proxy = os.environ.get("http_proxy", "").removeprefix("http://").rstrip("/")
    if not proxy:
        return "no proxy"
    try:
        with socket.create_connection((proxy.split(":")[0], int(proxy.split(":")[1])), timeout=5) as one:
            one.sendall(f"CONNECT {host}:{port} HTTP/1.1\\r\\nHost: {host}:{port}\\r\\n\\r\\n".encode())
            return one.recv(100).decode()
    except OSError as error:
        return error.__class__.__name__
targets = json.loads(sys.argv[1])
print(json.dumps({f"{host} {port}": [reach(host, port), by_proxy(host, port)] for host, port in targets}), flush=True)
"""


def reaching(targets: Iterable[tuple[str, int]]) -> list[str]:
    """The command."""
    return ["python3", "-c", _PROGRAM, json.dumps(list(targets))]


def reached(output: bytes) -> set[str]:
    """The addresses (as `host port`) whose server answered, directly or by the proxy."""
    found: dict[str, Any] = json.loads(output)
    return {target for target, tries in found.items() if any("REACHED" in one or " 200 " in one for one in tries)}
