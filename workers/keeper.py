"""The keeper: a small process beside the worker that outlives it. `python -m workers.keeper --directory DIR`.

It holds the attach stream of each sandbox (drains it into a spool on disk), the way to its gate (stdin), and
the order to stop it when the worker's leases end. It knows neither store nor engine, and has one thread.

It lives in a session of its own, so what kills the worker does not kill it. TERM, INT and HUP are ignored
while it holds something, and end it otherwise. It ends by itself when it has held nothing and nobody was
connected for some seconds. One keeper per directory.

Where containers or units are ended as a whole it is one of its own (compose.yaml, docs/systemd), that never ends
by itself, and the worker starts none (`SANDBOX_KEEPER_SERVICE`).

Requests are JSON lines on the Unix socket `DIR/keeper.sock`, each answered by one line (`keeper_client.py`):

  hello {worker_pid}                                           → {pid, version}
  hold {name, spool_dir, limit_bytes, stop: [argv…]} + socket  a name whose stream has ended may be held again;
                                                               `output_only`: nothing is ever written to it;
                                                               `keepsake`: a text held in memory only
  keepsake {name}                                              → {keepsake: text or null} as last given with `hold`
  watch {name}                                                 then bytes: `d` data was written, `e` the end
  write {name, data_base64, half_close}                        towards stdin; at most 4 MiB wait in the keeper
  shut {name}, release {name}                                  → {known}; release also forgets; spools stay
  renew {stop_after_seconds}, pause_lease {adopt_seconds}      stop the sandboxes then, if no word comes
  list                                                         → {held: {name: {…}}}
  quit {force}

When the lease ends, each sandbox's `stop` program runs (four at once, every 10 s until it exits 0, 20 times
at most, killed after 120 s). A stream that cannot be read at that time (spool or disk full) is shut first,
because the engine cannot stop a container whose output nobody takes. One that waits for its input is shut when its
program has succeeded: a container that was never started is removed by it, and the engine never ends its stream.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import resource
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from workers.keeper_connection import Connection
from workers.keeper_log import log
from workers.keeper_requests import Requests
from workers.keeper_stops import Lease, clock

if TYPE_CHECKING:
    from types import FrameType

EXIT_ANOTHER_KEEPER = 3
_LOOK_SECONDS = 0.05  # while something must be looked at again: a full spool, a program that runs
_REST_SECONDS = 1.0


class Keeper:
    """The loop. Everything it calls is non-blocking but for the disk."""

    def __init__(self, listener: socket.socket, lease: Lease, idle_exit_seconds: float) -> None:
        self._listener = listener
        self._idle_exit_seconds = idle_exit_seconds
        self._selector = selectors.DefaultSelector()
        self._requests = Requests(self._selector, lease)
        self._connections: set[Connection] = set()
        self._idle_since = clock()
        self._signalled = False
        self._next_look_at = 0.0
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        """TERM, INT, HUP: only noted here; the loop decides."""
        log("signal received", signal=number)
        self._signalled = True

    def run(self) -> None:
        """Until quit, a signal while nothing is held, or idleness."""
        while not self._requests.quitting and not self._may_leave():
            for key, mask in self._selector.select(self._timeout_seconds()):
                # A fault with one stream or client must not cost the others their output.
                try:
                    key.data(mask)
                except Exception as error:  # noqa: BLE001 - the last net; what is expected is handled below it
                    log("fault", error=repr(error), place=_place(error))
                    time.sleep(_LOOK_SECONDS)  # it may come again at once, and again
            if (now := clock()) >= self._next_look_at:
                self._next_look_at = now + _LOOK_SECONDS
                self._look(now)

    def _may_leave(self) -> bool:
        signalled, self._signalled = self._signalled, False
        if self._requests.holding():
            return False
        if signalled:
            return True
        if self._connections:
            return False
        return clock() - self._idle_since >= self._idle_exit_seconds

    def _look(self, now: float) -> None:
        """What no descriptor announces: room in a spool, the lease, programs that ended."""
        requests = self._requests
        if requests.holding() or self._connections:
            self._idle_since = now
        expired = requests.lease.expired(now)
        for stream in requests.streams.values():
            if stream.blocked:
                stream.unblock(now)
            if expired:
                if stream.blocked:
                    stream.shut("cut")
                requests.stops.want(stream.name, stream.stop_argv)
            # One that was never started is removed by its stop program, and the engine never ends its stream.
            if stream.open and not stream.stdin_closed and requests.stops.succeeded(stream.name):
                stream.shut("ended")
        requests.stops.tick(now)

    def _timeout_seconds(self) -> float:
        requests = self._requests
        if requests.stops.running or any(stream.blocked for stream in requests.streams.values()):
            return _LOOK_SECONDS
        timeout = min(_REST_SECONDS, max(_LOOK_SECONDS, self._idle_exit_seconds))
        expires_at = requests.lease.expires_at
        if expires_at is not None and requests.streams:
            timeout = min(timeout, max(_LOOK_SECONDS, expires_at - clock()))
        return timeout

    def _accept(self, _mask: int) -> None:
        with suppress(BlockingIOError):
            client, _address = self._listener.accept()
            connection = Connection(client, self._selector, self._requests.handle, self._closed)
            self._connections.add(connection)

    def _closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._requests.drop_watcher(connection)
        self._idle_since = clock()


def main(arguments: list[str] | None = None) -> int:
    """Run a keeper; 0 after a regular end, 3 when another keeper serves the directory."""
    options = _parse(arguments)
    os.umask(0o077)
    options.directory.mkdir(parents=True, exist_ok=True)
    options.directory.chmod(0o700)
    lock = os.open(options.directory / "keeper.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log("another keeper serves this directory", directory=str(options.directory))
        return EXIT_ANOTHER_KEEPER
    with _listen(options.directory) as listener:
        if options.detach and os.fork():
            os._exit(0)  # the socket listens: whoever started us may connect; the lock lives on in the child
        with suppress(PermissionError):  # already the leader of a session
            os.setsid()
        _prepare_process()
        keeper = Keeper(listener, Lease(options.stop_after_seconds), options.idle_exit_seconds)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, keeper.on_signal)
        log("started", directory=str(options.directory))
        keeper.run()
        # Before the lock goes, and before our clients notice: a successor makes its own.
        (options.directory / "keeper.sock").unlink(missing_ok=True)
    log("ended", directory=str(options.directory))
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="workers.keeper", description="Hold the sandboxes of one worker.")
    parser.add_argument("--directory", type=Path, required=True, help="for the socket and the lock; one keeper each")
    parser.add_argument("--idle-exit-seconds", type=float, default=10.0, help="end after so long without use")
    parser.add_argument(
        "--stop-after-seconds",
        type=float,
        default=30.0,
        help="the lease of sandboxes held before the first renewal",
    )
    parser.add_argument("--detach", action="store_true", help="return as soon as requests are accepted")
    return parser.parse_args(arguments)


def _listen(directory: Path) -> socket.socket:
    (directory / "keeper.sock").unlink(missing_ok=True)  # of a predecessor that was killed: we have the lock
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    at = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # By descriptor, because a socket's address is limited to 107 bytes and a data directory is not.
        listener.bind(f"/proc/self/fd/{at}/keeper.sock")
    finally:
        os.close(at)
    (directory / "keeper.sock").chmod(0o600)
    listener.listen(64)
    return listener


def _prepare_process() -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # keepsakes are secrets: they never reach a disk
    # Rather any other process than the one that knows what to stop; needs a privilege, goes without.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("-500")


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "unknown"


if __name__ == "__main__":
    sys.exit(main())
