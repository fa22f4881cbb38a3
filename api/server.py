"""gunicorn, embedded: one process, many threads.

Why threads and not gevent: a follower costs a thread that sleeps (36 KB), and nothing that blocks – SQLite's
busy wait, compression, a slow disk – can hold up the others, as it would a single event loop. All followers
of a task share rendered bytes, which is what kept 500 of them complete in the trial (core-path.md §6).
"""

from __future__ import annotations

import logging
import socket
import threading
from typing import Any

from gunicorn.app.base import BaseApplication

from api.app import create_app
from orchestrator.product import open_product
from orchestrator.reaper import Reaper
from orchestrator.settings import Settings

log = logging.getLogger(__name__)

THREADS = 1100
"""Each follower and each waiting DELETE holds one; further requests queue."""
STACK_BYTES = 512 << 10
SILENT_CLIENT_MS = 60_000
GRACEFUL_SECONDS = 2


class Server(BaseApplication):  # type: ignore[misc]
    """Serves REST on the port, and the same application on the stream port."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        settings, config = self._settings, self.cfg
        hosts = f"[{settings.host}]" if ":" in settings.host else settings.host
        ports = [settings.port] + ([settings.stream_port] if settings.stream_port else [])
        config.set("bind", [f"{hosts}:{port}" for port in ports])
        config.set("workers", 1)
        config.set("worker_class", "gthread")
        config.set("threads", THREADS)
        config.set("worker_connections", THREADS + 100)
        config.set("timeout", 120)
        config.set("graceful_timeout", GRACEFUL_SECONDS)
        config.set("keepalive", 30)
        config.set("limit_request_line", 8190)
        config.set("loglevel", "warning")
        config.set("proc_name", "sandbox-api")
        config.set("when_ready", _harden)

    def load(self) -> Any:
        """Called in the worker process, after the fork: connections and threads begin here."""
        threading.stack_size(STACK_BYTES)
        product = open_product(self._settings)
        Reaper(product).start()
        return create_app(product)


def _harden(arbiter: Any) -> None:
    """A vanished or stalled reader frees its thread: accepted sockets inherit these from the listeners."""
    for listener in arbiter.LISTENERS:
        listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_CLIENT_MS)
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    log.info("listening", extra={"addresses": ", ".join(str(one) for one in arbiter.LISTENERS)})
