"""`sandbox worker`: the process on a build host."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator import logs, settings


@click.command()
@click.option("--name", help="Stable name; the same name adopts its own sandboxes (SANDBOX_WORKER_NAME, host name).")
@click.option("--concurrency", type=click.IntRange(1, 1000), help="Tasks at once (SANDBOX_CONCURRENCY, 4).")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Data directory (SANDBOX_DATA_DIR).")
@click.option(
    "--wait-on-stop",
    type=click.FloatRange(0, 604_800),
    metavar="SECONDS",
    help="On TERM let running tasks end, so long at most (SANDBOX_STOP_WAIT_SECONDS, 0: leave them to be adopted).",
)
def worker(name: str | None, concurrency: int | None, data_dir: Path | None, wait_on_stop: float | None) -> None:
    """Run tasks on this host until TERM or Ctrl-C.

    What still runs then is left running, and adopted by the next start under the same name; with --wait-on-stop
    the worker first waits for it, until a second signal comes.
    """
    from workers import log_redaction  # noqa: PLC0415 - the same
    from workers.service import serve  # noqa: PLC0415 - engine and broker are loaded only by who works

    logs.install()
    log_redaction.install()
    serve(settings.load(worker_name=name, concurrency=concurrency, data_dir=data_dir, stop_wait_seconds=wait_on_stop))
