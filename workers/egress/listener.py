"""A listener inside a sandbox: accepts, bounds the number of connections, and closes for good."""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
ACCEPT_RETRY_SECONDS = 0.1
CLOSE_SECONDS = 2.0
"""For connections that were cut to tell what they still passed on."""
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED}


class Connection(Protocol):
    """What is done with one client. `serve` runs in a thread of its own, and may raise `OSError` when an end breaks
    off; `cut` ends it from any thread.
    """

    def serve(self) -> None: ...

    def cut(self) -> None: ...


class Listener:
    """Serves on a listening socket (TCP or Unix), which it owns from here on, until `close()`.

    `connect` makes what serves a client; `on_busy` is told of one that is turned away. `fault` says why it accepts no
    more although nobody closed it; None while it does. What stands then goes on.
    """

    def __init__(
        self, server: socket.socket, connect: Callable[[socket.socket], Connection], on_busy: Callable[[], None]
    ) -> None:
        self._server, self._connect, self._on_busy = server, connect, on_busy
        self._standing: dict[Connection, threading.Thread] = {}
        self._lock = threading.Lock()
        self._closed = False
        self.fault: str | None = None
        self._thread = threading.Thread(target=self._accept, name="listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Refuse new connections and cut those that stand. Idempotent; no thread accepts when it returns."""
        self._closed = True
        # close() alone leaves a thread in accept() with an open listener (core-path.md §3).
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        with self._lock:
            standing = list(self._standing.items())
        for connection, _ in standing:
            connection.cut()
        deadline = time.monotonic() + CLOSE_SECONDS
        for _, thread in standing:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError as error:
                if self._closed:
                    return
                if error.errno not in _PASSING:
                    log.exception("listener in a sandbox failed")
                    self._server.close()  # who connects is refused, rather than kept waiting for ever
                    self.fault = f"its listener failed: {error}"
                    return
                time.sleep(ACCEPT_RETRY_SECONDS)
                continue
            self._begin(client)

    def _begin(self, client: socket.socket) -> None:
        connection = self._connect(client)
        thread = threading.Thread(target=self._serve, args=(connection, client), name="connection", daemon=True)
        if self._has_begun(connection, thread):
            return
        if not self._closed:
            self._on_busy()
        client.close()

    def _has_begun(self, connection: Connection, thread: threading.Thread) -> bool:
        with self._lock:
            if self._closed or len(self._standing) >= MAX_CONNECTIONS:
                return False
            try:
                thread.start()
            except RuntimeError as error:  # this host has no thread left
                log.warning("connection of a sandbox refused", extra={"error": str(error)})
                return False
            self._standing[connection] = thread
            return True

    def _serve(self, connection: Connection, client: socket.socket) -> None:
        try:
            with client:
                connection.serve()
        except OSError as error:
            log.debug("connection of a sandbox ended", extra={"error": str(error)})
        except Exception:  # one connection must not leave its place taken for ever
            log.exception("connection of a sandbox broke off")
        finally:
            with self._lock:
                del self._standing[connection]
