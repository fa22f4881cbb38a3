"""An HTTP server of the test's own, on a free loopback port."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def serving(
    handler: type[BaseHTTPRequestHandler], over: threading.Event, tls: ssl.SSLContext | None = None
) -> Iterator[int]:
    """Serve until the block ends, by `tls` if given; yields the port.

    `over` is set then, so that no handler goes on waiting.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()
