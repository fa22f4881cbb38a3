"""The program of a sidecar: what connects to a loopback port is passed on to a Unix socket, byte by byte.

It runs inside a sandbox of our own image, given to Python as text (`python3 -c`) together with `workers.egress.relay`
(`sidecar` does that), so both use the standard library only. It decides nothing: the listener behind the socket does,
in the worker. No worker, no connection.
"""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import suppress

from workers.egress.relay import relay

READY = "listening"
MAX_CONNECTIONS = 96
"""More than the listener behind it takes, so that it is the one to refuse and to report; less than the sidecar's
processes (128), for each has a thread."""
CONNECT_SECONDS = 10.0


def serve(server: socket.socket, path: str, slots: threading.BoundedSemaphore) -> None:
    """Accept for ever; who gets none of the `slots` is turned away. Returns when the socket is closed."""
    while True:
        try:
            client, _ = server.accept()
        except ConnectionAbortedError:
            continue
        except OSError:
            return
        if not slots.acquire(blocking=False):
            client.close()
            continue
        threading.Thread(target=_connection, args=(client, path, slots), daemon=True).start()


def _connection(client: socket.socket, path: str, slots: threading.BoundedSemaphore) -> None:
    try:
        with client, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as worker, suppress(OSError):
            worker.settimeout(CONNECT_SECONDS)
            worker.connect(path)
            relay(client, worker, lambda _up, _down: None)  # the worker counts
    finally:
        slots.release()


def main(words: list[str]) -> None:
    """`words` are ports, each followed by the path of its socket."""
    doors = dict(zip(map(int, words[::2]), words[1::2], strict=True))
    servers = [socket.create_server(("127.0.0.1", port), backlog=MAX_CONNECTIONS) for port in doors]
    print(READY, flush=True)  # noqa: T201 - what the worker waits for
    slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
    for server, path in zip(servers, doors.values(), strict=True):
        threading.Thread(target=serve, args=(server, path, slots)).start()


if __name__ == "__main__":
    main(sys.argv[1:])
