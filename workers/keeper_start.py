"""Finding the keeper of a directory, and starting one that outlives the process that starts it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

START_TIMEOUT_SECONDS = 5.0
NOT_OURS = "it is a service of its own (SANDBOX_KEEPER_SERVICE) and does not run; start it"
REPLY_TIMEOUT_SECONDS = 10.0  # the keeper has one thread, and a slow disk can hold it up


class KeeperUnavailable(RuntimeError):
    """No keeper answers and none could be started, or it went away in the middle of a request."""


class KeeperStarter:
    """Opens connections to one directory's keeper. Not thread-safe; two starts at once only waste one.

    Without `starts` it only waits: a keeper started beside a service would take its place, and end with this
    process's container or unit.
    """

    def __init__(
        self, directory: Path, idle_exit_seconds: float, stop_after_seconds: float, *, starts: bool = True
    ) -> None:
        self.directory = directory.absolute()
        self._idle_exit_seconds = idle_exit_seconds
        self._stop_after_seconds = stop_after_seconds
        self._starts = starts

    def connect_or_start(self) -> socket.socket:
        """A connection, to a new keeper if none listens and this one `starts`. Raises KeeperUnavailable, OSError."""
        connection = self.connect()
        if connection is not None:
            return connection
        give_up_at = time.monotonic() + START_TIMEOUT_SECONDS
        problem = self._start() if self._starts else NOT_OURS
        while (connection := self.connect()) is None:
            if time.monotonic() >= give_up_at:
                raise KeeperUnavailable(
                    f"no keeper answers in {self.directory}: {problem}; "
                    f"see keeper.log there, and end a keeper that hangs"
                )
            time.sleep(0.02)
        return connection

    def connect(self) -> socket.socket | None:
        """A connection, or None when nobody listens. Raises OSError when the directory forbids it."""
        try:
            at = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(REPLY_TIMEOUT_SECONDS)
        try:
            # By descriptor, because a socket's address is limited to 107 bytes and a data directory is not.
            connection.connect(f"/proc/self/fd/{at}/keeper.sock")
        except (FileNotFoundError, ConnectionError):
            connection.close()
            return None
        except BaseException:
            connection.close()
            raise
        finally:
            os.close(at)
        return connection

    def _start(self) -> str:
        """Start a keeper and wait until it listens; says what happened, should nobody answer then."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        root = str(Path(__file__).resolve().parents[1])
        # Without site packages (-S -I): half the memory, and nothing that is installed can break it. Our own
        # directory comes last, so that it cannot hide a module of the standard library.
        code = f"import sys; sys.path.append({root!r}); from workers.keeper import main; sys.exit(main())"
        argv = [sys.executable, "-I", "-S", "-c", code, f"--directory={self.directory}", "--detach"]
        argv += [f"--idle-exit-seconds={self._idle_exit_seconds}"]
        argv += [f"--stop-after-seconds={self._stop_after_seconds}"]
        with (self.directory / "keeper.log").open("ab") as log:
            try:
                ended = subprocess.run(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    start_new_session=True,
                    timeout=START_TIMEOUT_SECONDS,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                return f"it could not be started ({error})"
        return f"the one started ended with code {ended.returncode}"
