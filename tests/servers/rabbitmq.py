"""A RabbitMQ server of the test's own."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Self

from tests.conftest import missing
from tests.servers.process import ServerProcess, answers, free_port

# Debian's program on PATH becomes the user rabbitmq, who may not write below a test's directory.
_PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")

_CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
log.file = false
log.console = true
log.console.level = info
disk_free_limit.absolute = 1MB
"""


class RabbitServer:
    """A RabbitMQ node on loopback ports, with its files in `directory`. The ports stay the same for life.

    The node has its own epmd (Erlang's name server), cookie and home directory, and no plugins; the user
    guest, whom RabbitMQ admits over loopback alone, needs no password in the URL because clients assume it.
    """

    def __init__(self, directory: Path, configuration: str = "") -> None:
        """`configuration` is more of rabbitmq.conf."""
        self._directory = directory
        self._configuration = configuration
        self._port, self._distribution_port, self._names_port = free_port(), free_port(), free_port()
        self._node = ServerProcess("rabbitmq-server", directory / "rabbitmq.log")
        self._names = ServerProcess("epmd", directory / "epmd.log")

    @property
    def url(self) -> str:
        """The URL for `SANDBOX_BROKER_URL`."""
        return f"amqp://127.0.0.1:{self._port}//"

    @property
    def running(self) -> bool:
        """Whether it was started and neither stopped nor killed; a paused one runs."""
        return self._node.running

    def start(self) -> None:
        """Start it; returns when it takes connections. Skips the test (fails under CI) without the program."""
        program = str(_PROGRAM) if _PROGRAM.exists() else shutil.which("rabbitmq-server")
        names = shutil.which("epmd")
        if program is None or names is None:
            missing("rabbitmq-server", "install the package rabbitmq-server, or run .ci/install")
        assert program is not None, "missing() does not return"
        assert names is not None, "missing() does not return"
        self._directory.mkdir(parents=True, exist_ok=True)
        self._path("rabbitmq.conf").write_text(_CONFIGURATION.format(port=self._port) + self._configuration)
        self._path("rabbitmq-env.conf").write_text("")
        self._path("enabled_plugins").write_text("[].\n")
        try:
            # Started here and in the foreground: the one Erlang starts by itself is a daemon that stays.
            self._names.start([names], self._environment(), lambda: answers(self._names_port, b"\0\1n", b"\0\0"))
            self._node.start([program], self._environment(), self._takes_connections)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it in order; durable queues and their persistent messages are kept on disk."""
        self._node.stop()
        self._names.kill()

    def kill(self) -> None:
        """End it as a crash would; what it confirmed is kept on disk."""
        self._node.kill()
        self._names.kill()

    def pause(self) -> None:
        """Keep its connections open and let nobody answer on them."""
        self._node.pause()

    def resume(self) -> None:
        """Let it answer again."""
        self._node.resume()

    def empty(self) -> None:
        """Forget all queues, messages, users. Only while it does not run."""
        assert not self._node.running, "a running server cannot be emptied"
        shutil.rmtree(self._path("mnesia"), ignore_errors=True)

    def control(self, *arguments: str) -> None:
        """Run rabbitmqctl. Only while it runs."""
        argv = [shutil.which("rabbitmqctl", path=f"{_PROGRAM.parent}:{os.environ['PATH']}") or "", *arguments]
        done = subprocess.run(argv, env=self._environment(), capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, f"{argv} ended with {done.returncode}: {done.stdout}{done.stderr}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()

    def _path(self, name: str) -> Path:
        return self._directory / name

    def _takes_connections(self) -> bool:
        # Method frame of channel 0: Connection.Start, which comes when the node has finished booting.
        return answers(self._port, b"AMQP\0\0\x09\x01", b"\1\0\0")

    def _environment(self) -> dict[str, str]:
        inherited = {name: text for name, text in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        return inherited | {
            "HOME": str(self._directory),  # where Erlang makes its cookie
            "ERL_EPMD_PORT": str(self._names_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"sandbox{self._port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONF_ENV_FILE": str(self._path("rabbitmq-env.conf")),
            "RABBITMQ_CONFIG_FILE": str(self._path("rabbitmq.conf")),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._path("enabled_plugins")),
            "RABBITMQ_MNESIA_BASE": str(self._path("mnesia")),
            "RABBITMQ_LOG_BASE": str(self._path("log")),
            "RABBITMQ_PID_FILE": str(self._path("rabbitmq.pid")),
            # Makes the start script become the node instead of a shell that waits for it: one pid to signal.
            "RUNNING_UNDER_SYSTEMD": "true",
        }
