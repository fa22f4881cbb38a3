"""A PostgreSQL of its own for a test run: in a temporary directory, on a Unix socket, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

SETTINGS = (
    "listen_addresses=''", "fsync=off", "full_page_writes=off", "synchronous_commit=off", "max_connections=200",
    "shared_buffers=32MB", "autovacuum=off", "deadlock_timeout=200ms",
)  # fmt: skip
"""Nothing has to survive a power loss here; a deadlock is to be seen soon."""


class Cluster:
    """The server refuses to run as root: then its programs run as the user `postgres`."""

    def __init__(self, programs: Path, directory: Path) -> None:
        self._programs = programs
        self._directory = directory
        self._as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []

    def create(self) -> None:
        self._run("initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale", "--no-sync")
        options = "\n".join([f"unix_socket_directories='{self._directory}'", *SETTINGS, ""])
        with (self._directory / "data" / "postgresql.conf").open("a") as file:
            file.write(options)
        self.start()

    def start(self) -> None:
        self._run("pg_ctl", "--wait", f"--log={self._directory}/log", "start")

    def stop(self, mode: str = "fast") -> None:
        """Break every connection; what was committed is there again after `start`. As a crash with `immediate`."""
        self._run("pg_ctl", "--wait", f"--mode={mode}", "stop")

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self._directory}"

    def execute(self, statement: str) -> None:
        """Run a statement that wants no transaction, in the maintenance database."""
        url = sa.make_url(self.url("postgres")).set(drivername="postgresql+psycopg")
        engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(statement))

    def end_sessions(self, database: str) -> None:
        """As an operator or a restarted server does: every connection to the database breaks."""
        found = f"FROM pg_stat_activity WHERE datname = '{database}'"
        self.execute(f"SELECT pg_terminate_backend(pid) {found}")

    def _run(self, program: str, *options: str) -> None:
        argv = [*self._as_user, str(self._programs / program), f"--pgdata={self._directory}/data", *options]
        done = subprocess.run(
            argv, cwd=self._directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{program} ended with {done.returncode}: {done.stdout}{done.stderr}"


def can_run_as_server() -> bool:
    """Tell whether there is a user the server may run as."""
    if os.geteuid() != 0:
        return True
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam("postgres")) and shutil.which("runuser") is not None
    return False


@contextlib.contextmanager
def running_cluster(programs: Path) -> Iterator[Cluster]:
    # Not below pytest's directory: the server's user may not enter that one, and a socket's path is short.
    directory = Path(tempfile.mkdtemp(prefix="sandbox-pg-"))
    cluster = Cluster(programs, directory)
    try:
        if os.geteuid() == 0:
            shutil.chown(directory, "postgres")
        cluster.create()
        yield cluster
    finally:
        with contextlib.suppress(AssertionError):
            cluster.stop()
        shutil.rmtree(directory)
