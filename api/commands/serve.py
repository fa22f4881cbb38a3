"""`sandbox api`: the REST API as a process of its own."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator import logs, settings
from orchestrator.services.tokens import check_host
from orchestrator.store.database import Database
from orchestrator.supervised import end_with_parent


@click.command()
@click.option("--host", help="Address to listen on (SANDBOX_HOST, 127.0.0.1).")
@click.option("--port", type=click.IntRange(1, 65535), help="REST port (SANDBOX_PORT, 8122).")
@click.option("--stream-port", type=click.IntRange(1, 65535), help="Second port (8121 when the first is 8122).")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Data directory (SANDBOX_DATA_DIR).")
def api(host: str | None, port: int | None, stream_port: int | None, data_dir: Path | None) -> None:
    """Serve the REST API until TERM or Ctrl-C."""
    from api import tls  # noqa: PLC0415 - as the web server
    from api.server import Server  # noqa: PLC0415 - the web server is loaded only by who serves

    logs.install()
    end_with_parent()
    in_force = settings.load(host=host, port=port, stream_port=stream_port, data_dir=data_dir)
    tls.check(in_force)
    Database(in_force.store_url).ping()  # said here in one line; behind the web server it is a page
    check_host(in_force)
    Server(in_force).run()
