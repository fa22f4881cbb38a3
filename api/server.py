"""gunicorn, embedded: one process, many threads.

Why threads and not gevent: a follower costs a thread that sleeps (36 KB), and nothing that blocks – SQLite's
busy wait, compression, a slow disk – can hold up the others, as it would a single event loop. All followers
of a task share rendered bytes, which is what kept 500 of them complete in the trial (core-path.md §6).
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from contextlib import suppress
from typing import Any

from gunicorn import util
from gunicorn.app.base import BaseApplication
from gunicorn.workers.gthread import ThreadWorker

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
        config.set("worker_class", Worker)
        config.set("threads", THREADS)
        config.set("worker_connections", THREADS + 100)
        config.set("timeout", 120)
        config.set("graceful_timeout", GRACEFUL_SECONDS)
        config.set("keepalive", 30)
        config.set("limit_request_line", 8190)
        # What a proxy says about a request is judged in one place (`api.peer`), by SANDBOX_TRUSTED_PROXIES.
        config.set("forwarded_allow_ips", "")
        if settings.tls_cert and settings.tls_key:  # read anew for each connection: a renewed one needs no restart
            config.set("certfile", str(settings.tls_cert))
            config.set("keyfile", str(settings.tls_key))
        config.set("loglevel", "warning")
        config.set("proc_name", "sandbox-api")
        config.set("when_ready", _harden)
        config.set("worker_exit", _leave)
        if "control_socket_disable" in config.settings:  # gunicorn 25 and later
            # It would lie in the home directory, one for all servers of this user.
            config.set("control_socket_disable", True)

    def load(self) -> Any:
        """Called in the worker process, after the fork: connections and threads begin here.

        So do the imports: the process that only supervises needs none of them.
        """
        from api.app import create_app  # noqa: PLC0415
        from orchestrator.manifest.schema import prepare  # noqa: PLC0415
        from orchestrator.product import open_product  # noqa: PLC0415
        from orchestrator.reaper import Reaper  # noqa: PLC0415

        threading.stack_size(STACK_BYTES)
        product = open_product(self._settings)
        Reaper(product).start()
        prepare()
        return create_app(product)


class Worker(ThreadWorker):  # type: ignore[misc]
    """Says goodbye to a client in the thread that served it.

    gunicorn waits up to 2 s for the client to close its end, and does so in the one thread that accepts all
    others: some readers that vanished would keep everybody out.
    """

    def handle(self, conn: Any) -> Any:
        """Serve one request; false when the connection is to be closed."""
        go_on = super().handle(conn)
        if go_on is False:
            with suppress(OSError):  # closed already
                # The connection itself, below TLS: gunicorn does not say goodbye in TLS either.
                util.close_graceful(socket.socket(fileno=os.dup(conn.sock.fileno())))
                conn.sock.shutdown(socket.SHUT_RDWR)
        return go_on


def _harden(arbiter: Any) -> None:
    """A vanished or stalled reader frees its thread: accepted sockets inherit these from the listeners."""
    for listener in arbiter.LISTENERS:
        listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_CLIENT_MS)
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    log.info("listening", extra={"addresses": ", ".join(str(one) for one in arbiter.LISTENERS)})


def _leave(_arbiter: Any, worker: Any) -> None:
    """End now: at its exit Python would wait for every thread, and a follower's ends with its task."""
    if worker.booted:  # else the exit code tells the arbiter that there is no point in another one
        from api.parts import KEY  # noqa: PLC0415 - as in `load`

        worker.wsgi.extensions[KEY].trail.flush(GRACEFUL_SECONDS)
        os._exit(0)
