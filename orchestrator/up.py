"""`sandbox up`: API and worker of one machine, supervised as processes of their own."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

from orchestrator import settings
from orchestrator.cli import CommandFailed
from orchestrator.services.tokens import check_host
from orchestrator.supervised import END_SANDBOXES, PARENT

STOP_SECONDS = 90.0
RESTART_SECONDS = 0.5
EARLY_SECONDS = 10.0
MAX_EARLY_DEATHS = 3
POLL_SECONDS = 0.5
PREDECESSOR_SECONDS = 5.0


class Part:
    """One supervised process. It has a session of its own: Ctrl-C on the terminal reaches only `up`."""

    def __init__(self, name: str, environment: dict[str, str]) -> None:
        self.name = name
        self._environment = environment
        self._early_deaths = 0
        self.process, self.started_at = self._start()

    def _start(self) -> tuple[subprocess.Popen[bytes], float]:
        # -P: nothing in the present directory can stand in for a module of ours.
        argv = [sys.executable, "-P", "-m", "orchestrator.cli", self.name]
        process = subprocess.Popen(argv, env=self._environment, stdin=subprocess.DEVNULL, start_new_session=True)
        return process, time.monotonic()

    def restart_if_dead(self) -> None:
        """Start it again when it died; raise `CommandFailed` when it does not get up."""
        code = self.process.poll()
        if code is None:
            return
        lived = time.monotonic() - self.started_at
        self._early_deaths = self._early_deaths + 1 if lived < EARLY_SECONDS else 0
        if code > 0 and self._early_deaths >= MAX_EARLY_DEATHS:
            raise CommandFailed(
                f"the {self.name} ended {self._early_deaths} times within {EARLY_SECONDS:g} s, with exit code {code}; "
                "read its messages above, correct that, and start `sandbox up` again"
            )
        click.echo(f"sandbox up: the {self.name} ended with {code}; it is started again", err=True)
        time.sleep(RESTART_SECONDS)
        self.process, self.started_at = self._start()

    def send(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    def stop(self, deadline: float) -> None:
        try:
            self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            click.echo(f"sandbox up: the {self.name} did not end in time and is killed", err=True)
            self.process.kill()
            self.process.wait()


@click.command()
@click.option("--host", help="Address to listen on (SANDBOX_HOST, 127.0.0.1).")
@click.option("--port", type=click.IntRange(1, 65535), help="REST port (SANDBOX_PORT, 8122).")
@click.option("--stream-port", type=click.IntRange(1, 65535), help="Second port (8121 when the first is 8122).")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Data directory (SANDBOX_DATA_DIR).")
@click.option("--concurrency", type=click.IntRange(1, 1000), help="Tasks at once (SANDBOX_CONCURRENCY, 4).")
@click.option("--leave-running", is_flag=True, help="On Ctrl-C, leave the sandboxes for the next start to adopt.")
def up(
    host: str | None,
    port: int | None,
    stream_port: int | None,
    data_dir: Path | None,
    concurrency: int | None,
    *,
    leave_running: bool,
) -> None:
    """Run everything on this machine: API, worker, broker and store.

    Ctrl-C ends it, sandboxes included; TERM leaves the sandboxes to be adopted by the next start.
    """
    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "stream_port": stream_port,
        "data_dir": data_dir,
        "concurrency": concurrency,
    }
    in_force = settings.load(embedded=True, **given)
    check_host(in_force)
    received: list[int] = []
    wake = threading.Event()

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        wake.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, note)
    with _exclusive(in_force.data_dir):
        _check_ports(in_force)
        wish = in_force.run_dir / END_SANDBOXES
        wish.unlink(missing_ok=True)
        environment = _environment(given, in_force)
        parts = [Part("api", environment), Part("worker", environment)]
        try:
            _supervise(parts, in_force, wake, received)
        finally:
            end_sandboxes = bool(received) and received[0] == signal.SIGINT and not leave_running
            _stop(parts, wish if end_sandboxes else None, in_force.stop_wait_seconds)


def _supervise(parts: list[Part], in_force: settings.Settings, wake: threading.Event, received: list[int]) -> None:
    announced = False
    while not received:
        wake.wait(POLL_SECONDS if announced else POLL_SECONDS / 10)
        if not announced and _listens(in_force):
            _announce(in_force)
            announced = True
        for part in parts:
            if not received:
                part.restart_if_dead()


def _stop(parts: list[Part], wish: Path | None, wait_seconds: float) -> None:
    """End the parts; with `wish`, the sandboxes too. Else the worker may first wait for them for `wait_seconds`."""
    deadline = time.monotonic() + STOP_SECONDS + (0 if wish else wait_seconds)
    api, worker = parts
    if wish is not None:
        click.echo("sandbox up: stopping, running tasks end too", err=True)
        wish.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        wish.touch(mode=0o600)
    else:
        click.echo("sandbox up: stopping, running sandboxes wait for the next start", err=True)
    worker.send(signal.SIGTERM)
    worker.stop(deadline)
    api.send(signal.SIGTERM)
    api.stop(deadline)


def _check_ports(in_force: settings.Settings) -> None:
    """Fail at the start when a port is taken; a predecessor may need a moment to let go of it."""
    deadline = time.monotonic() + PREDECESSOR_SECONDS
    for port in filter(None, (in_force.port, in_force.stream_port)):
        while (error := _bind_error(in_force.host, port)) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS / 2)
        if error:
            raise CommandFailed(
                f"cannot listen on {in_force.host}:{port}: {error.strerror}; "
                "is another `sandbox up` or server there? Stop it, or choose --port and --stream-port"
            )


def _bind_error(host: str, port: int) -> OSError | None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None


def _listens(in_force: settings.Settings) -> bool:
    try:
        socket.create_connection((in_force.host, in_force.port), timeout=1).close()
    except OSError:
        return False
    return True


def _announce(in_force: settings.Settings) -> None:
    scheme = "https" if in_force.tls_cert else "http"
    base = f"{scheme}://{in_force.host}:{in_force.port}"
    click.echo(f"sandbox up: web page at {base}/, REST at {base}/api/v1, data in {in_force.data_dir}")
    if in_force.stream_port:
        click.echo(f"sandbox up: the same at {scheme}://{in_force.host}:{in_force.stream_port} for event streams")
    if not in_force.is_local:
        create = f"sandbox token create NAME --owner WHO --data-dir {in_force.data_dir}"
        click.echo(f"sandbox up: other machines reach it; `{create}` makes an access token")
    click.echo(f"sandbox up: try `sandbox task submit examples/hello.yaml --follow --server {base}`; Ctrl-C ends it")


def _environment(given: dict[str, Any], in_force: settings.Settings) -> dict[str, str]:
    """The options become settings: the parts read them like an operator's own."""
    chosen = {f"SANDBOX_{key.upper()}": str(value) for key, value in given.items() if value is not None}
    chosen["SANDBOX_DATA_DIR"] = str(in_force.data_dir)
    return {**os.environ, **chosen, "SANDBOX_EMBEDDED": "1", PARENT: str(os.getpid())}


@contextmanager
def _exclusive(data_dir: Path) -> Iterator[None]:
    """One `up` a data directory: two workers of one name would fight over the same sandboxes."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(data_dir / "up.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        message = f"another `sandbox up` runs on {data_dir}; use that one, or give another --data-dir"
        raise CommandFailed(message) from None
    finally:
        os.close(lock)
