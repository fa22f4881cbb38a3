"""`sandbox worker`: the process on a build host."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator import logs, settings


@click.command()
@click.option("--name", help="Stable name; the same name adopts its own sandboxes (SANDBOX_WORKER_NAME, host name).")
@click.option("--concurrency", type=click.IntRange(1, 1000), help="Tasks at once (SANDBOX_CONCURRENCY, 4).")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Data directory (SANDBOX_DATA_DIR).")
def worker(name: str | None, concurrency: int | None, data_dir: Path | None) -> None:
    """Run tasks on this host until TERM or Ctrl-C; running sandboxes are left to be adopted by the next start."""
    from workers.service import serve  # noqa: PLC0415 - engine and broker are loaded only by who works

    logs.install()
    serve(settings.load(worker_name=name, concurrency=concurrency, data_dir=data_dir))
