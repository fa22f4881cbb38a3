"""Many readers of one address, in a process of their own: `python -m tests.benchmarks.readers`.

Prints `ready` when all are connected, and at the end of its input a line of JSON: how late what they read was. What is
read holds instants as `@<nanoseconds since 1970>@`. All read everything; some of them look at what it says.
"""

import argparse
import base64
import json
import re
import selectors
import socket
import sys
import time
from collections import Counter

LOOKED_AT = 100
"""Readers whose delays are taken: what the others read is only counted."""
QUIET_SECONDS = 2.0
_INSTANT = re.compile(rb"@(\d{19})@")


class Reader:
    """One connection. `rest` is the end of what was read, which may be the beginning of an instant."""

    def __init__(self, address: tuple[str, int], request: bytes, *, until: bytes) -> None:
        self.socket = socket.create_connection(address, timeout=60)
        self.socket.sendall(request)
        head = b""
        while b"\r\n\r\n" not in head:
            data = self.socket.recv(1 << 16)
            if not data:
                raise SystemExit(f"the server hung up: {head!r}")
            head += data
        if head.split(b" ", 2)[1] not in (b"200", b"101"):
            raise SystemExit(f"the server refused a reader: {head!r}")
        self.rest = head.partition(b"\r\n\r\n")[2]
        while until not in self.rest:
            self.rest += self.socket.recv(1 << 16)
        self.socket.setblocking(False)


def request_of(host: str, port: int, path: str, *, websocket: bool) -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}", "Accept: text/event-stream"]
    if websocket:
        key = base64.b64encode(b"benchmark-reader").decode()
        lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--websocket", action="store_true")
    options = parser.parse_args()
    request = request_of("127.0.0.1", options.port, options.path, websocket=options.websocket)
    until = b"heartbeat" if "/stream" in options.path else b""  # from then on everything is told
    readers = [Reader(("127.0.0.1", options.port), request, until=until) for _ in range(options.count)]
    print("ready", flush=True)
    print(json.dumps(read(readers)), flush=True)


def read(readers: list[Reader]) -> dict[str, object]:
    """Read until standard input ends. `complete`: readers, by how many instants they got."""
    step = max(1, len(readers) // LOOKED_AT)
    looked_at = set(readers[::step])
    delays: list[float] = []
    got: Counter[Reader] = Counter()
    total_bytes = 0
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        for reader in readers:
            selector.register(reader.socket, selectors.EVENT_READ, reader)
        is_over = False
        while (ready := selector.select(QUIET_SECONDS if is_over else None)) or not is_over:
            for key, _ in ready:
                if key.data is None:  # from now on until nothing is on its way any more
                    is_over = True
                    selector.unregister(sys.stdin)
                    continue
                data = key.data.socket.recv(1 << 18)
                if not data:
                    raise SystemExit("the server hung up on a reader")
                total_bytes += len(data)
                if key.data in looked_at:
                    now = time.time_ns()
                    whole = key.data.rest + data
                    matches = list(_INSTANT.finditer(whole))
                    found = [one[1] for one in matches]
                    key.data.rest = whole[matches[-1].end() if matches else 0 :][-21:]
                    got[key.data] += len(found)
                    delays += [(now - int(one)) / 1e6 for one in found]
    return {"delays_ms": delays, "instants": dict(Counter(got[one] for one in looked_at)), "bytes": total_bytes}


if __name__ == "__main__":
    main()
