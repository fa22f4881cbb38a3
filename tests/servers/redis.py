"""A Redis server of the test's own."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.conftest import missing
from tests.servers.process import ServerProcess, answers, free_port


class RedisServer:
    """A Redis server on a loopback port, with its files in `directory`. The port stays the same for life.

    Every write is in the append-only file before it is answered, so that `kill` and `start` keep the messages.
    """

    def __init__(self, directory: Path, options: Mapping[str, str] | None = None) -> None:
        """`options` are further settings of redis.conf."""
        self._directory = directory
        self._options = dict(options or {})
        self._port = free_port()
        self._process = ServerProcess("redis-server", directory / "redis.log")

    @property
    def url(self) -> str:
        """The URL for `SANDBOX_BROKER_URL`."""
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def running(self) -> bool:
        """Whether it was started and neither stopped nor killed; a paused one runs."""
        return self._process.running

    def start(self) -> None:
        """Start it; returns when it takes connections. Skips the test (fails under CI) without the program."""
        program = shutil.which("redis-server")
        if program is None:
            missing("redis-server", "install the package redis-server, or run .ci/install")
        assert program is not None, "missing() does not return"
        self._directory.mkdir(parents=True, exist_ok=True)
        options = {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "dir": str(self._directory),
            "appendonly": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
            **self._options,
        }
        argv = [program]
        for name, text in options.items():
            argv += [f"--{name}", text]
        self._process.start(argv, os.environ, lambda: answers(self._port, b"PING\r\n", b"+PONG"))

    def stop(self) -> None:
        """End it in order; messages are kept on disk."""
        self._process.stop()

    def kill(self) -> None:
        """End it as a crash would; messages are kept on disk."""
        self._process.kill()

    def pause(self) -> None:
        """Keep its connections open and let nobody answer on them."""
        self._process.pause()

    def resume(self) -> None:
        """Let it answer again."""
        self._process.resume()

    def empty(self) -> None:
        """Forget all messages. Only while it does not run."""
        assert not self._process.running, "a running server cannot be emptied"
        shutil.rmtree(self._directory / "appendonlydir", ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()
