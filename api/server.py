"""gunicorn, embedded: one process, many threads.

Why threads and not gevent: a follower costs a thread that sleeps (36 KB), and nothing that blocks – SQLite's
busy wait, compression, a slow disk – can hold up the others, as it would a single event loop. All followers
of a task share rendered bytes, which is what kept 500 of them complete in the trial (core-path.md §6).

`make bench` (streams), on 2 cores with the readers beside it: a thousand readers of a task that says 20 lines a second
got all of them, half within 0.2 s (log) to 0.6 s (events by WebSocket), for 1.0 to 1.4 cores and 63 to 88 KB each; a
thousand readers of a hundred tasks, 100,000 frames a second, within 0.5 s (SSE) to 0.8 s, for 0.9 of a core. A round
wakes all readers, so what they cost grows with the rounds, which grow longer with their number (`api.stream.hub`).
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from contextlib import suppress
from typing import Any

from gunicorn import util
from gunicorn.app.base import BaseApplication
from gunicorn.workers.gthread import ThreadWorker

from api.capacity import THREADS
from api.peer import peer_of
from api.unfinished import SWEEP_SECONDS, TimedReader, Unfinished
from orchestrator.settings import Settings

log = logging.getLogger(__name__)

HEAD_SECONDS = 15.0
"""What a client may take for the handshake of TLS and the head of a request, together."""
BODY_SECONDS = 60.0
MOST_UNFINISHED = 200
"""Connections of one address whose request has not arrived. A proxy sends what has arrived, so it has few of them."""
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
        from orchestrator.webhooks.notifier import Notifier  # noqa: PLC0415

        threading.stack_size(STACK_BYTES)
        product = open_product(self._settings)
        Reaper(product).start()
        Notifier(product).start()
        prepare()
        return create_app(product)


class Worker(ThreadWorker):  # type: ignore[misc]
    """Closes connections whose request does not come, and says goodbye to a client in the thread that served it.

    gunicorn bounds the wait for the first byte only; the rest of the head, the body and TLS's handshake it awaits
    for ever, a thread for each. And at the end it waits up to 2 s for the client to close, and does so in the one
    thread that accepts all others: some readers that vanished would keep everybody out.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.unfinished = Unfinished(MOST_UNFINISHED, lambda address: peer_of(address, "", {}, ()).network)

    def run(self) -> None:
        """Serve until the process is told to end."""
        threading.Thread(target=self._sweep, name="unfinished-requests", daemon=True).start()
        super().run()

    def _sweep(self) -> None:
        warned_at = -60.0
        while True:
            time.sleep(SWEEP_SECONDS)
            try:
                closed = self.unfinished.sweep(crowded=self.nr_conns >= THREADS)
            except Exception:  # without this thread anybody can keep all others out
                log.exception("sweep of unfinished requests failed, going on")
                continue
            if closed and time.monotonic() - warned_at >= 60:
                warned_at = time.monotonic()
                log.warning("connections closed before their request had arrived", extra={"connections": closed})

    def enqueue_req(self, conn: Any) -> None:
        """Let a thread serve the connection. Called for new ones, and when one has bytes again."""
        self.unfinished.begin(conn)
        super().enqueue_req(conn)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request whose head has arrived; its body is read by the application."""
        self.unfinished.end(conn)
        req.body.reader = TimedReader(req.body.reader, conn, self.unfinished, BODY_SECONDS)
        return super().handle_request(req, conn)

    def handle(self, conn: Any) -> Any:
        """Serve one request; false when the connection is to be closed."""
        go_on: Any = False
        self.unfinished.limit(conn, HEAD_SECONDS)
        try:
            go_on = super().handle(conn)
        finally:
            if isinstance(go_on, bool):  # else nothing came, and it goes on waiting without a thread
                self.unfinished.end(conn)
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
