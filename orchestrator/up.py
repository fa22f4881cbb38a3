"""`sandbox up`: API and worker of one machine, supervised as processes of their own."""

from __future__ import annotations

import fcntl
import os
import signal
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

END_ALL_SIGNAL = signal.SIGRTMIN
STOP_SECONDS = 90.0
RESTART_SECONDS = 1.0


class Part:
    """One supervised process. It has a session of its own: Ctrl-C on the terminal reaches only `up`."""

    def __init__(self, name: str, environment: dict[str, str]) -> None:
        self.name = name
        self._environment = environment
        self.process = self._start()
        self.started_at = time.monotonic()

    def _start(self) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-P", "-m", "orchestrator.cli", self.name]
        return subprocess.Popen(argv, env=self._environment, stdin=subprocess.DEVNULL, start_new_session=True)

    def restart_if_dead(self) -> None:
        code = self.process.poll()
        if code is None or time.monotonic() - self.started_at < RESTART_SECONDS:
            return
        click.echo(f"sandbox up: the {self.name} ended with {code}; it is started again", err=True)
        self.process, self.started_at = self._start(), time.monotonic()

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
    received: list[int] = []
    wake = threading.Event()

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        wake.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, note)
    environment = _environment(given, in_force)
    with _exclusive(in_force.data_dir):
        parts = [Part("api", environment), Part("worker", environment)]
        _announce(in_force)
        while not received:
            wake.wait(0.5)
            for part in parts:
                part.restart_if_dead()
        _stop(parts, end_sandboxes=received[0] == signal.SIGINT and not leave_running)


def _stop(parts: list[Part], *, end_sandboxes: bool) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    api, worker = parts
    if end_sandboxes:
        click.echo("sandbox up: stopping, running tasks end too", err=True)
        worker.send(END_ALL_SIGNAL)
    else:
        click.echo("sandbox up: stopping, running sandboxes wait for the next start", err=True)
    worker.send(signal.SIGTERM)
    worker.stop(deadline)
    api.send(signal.SIGTERM)
    api.stop(deadline)


def _announce(in_force: settings.Settings) -> None:
    base = f"http://{in_force.host}:{in_force.port}"
    click.echo(f"sandbox up: REST at {base}/api/v1, data in {in_force.data_dir}")
    if in_force.stream_port:
        click.echo(f"sandbox up: the same at http://{in_force.host}:{in_force.stream_port} for event streams")
    click.echo(f"sandbox up: try `sandbox task list --server {base}`; Ctrl-C ends it")


def _environment(given: dict[str, Any], in_force: settings.Settings) -> dict[str, str]:
    """The options become settings: the parts read them like an operator's own."""
    chosen = {f"SANDBOX_{key.upper()}": str(value) for key, value in given.items() if value is not None}
    chosen["SANDBOX_DATA_DIR"] = str(in_force.data_dir)
    return {**os.environ, **chosen, "SANDBOX_EMBEDDED": "1"}


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
