"""One process of a server that belongs to a test, and the port it listens on."""

import fcntl
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

START_SECONDS = 90.0
"""Longest wait for a server to take connections. RabbitMQ needs 5 s on an idle machine."""

STOP_SECONDS = 60.0
_LOWEST_PORT = 10_000
_RESERVED = Path(tempfile.gettempdir()) / f"sandbox-test-ports-{os.getuid()}"
_LOCAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A loopback port nobody listens on, outside the range the kernel gives to outgoing connections.

    Inside that range a client that keeps trying to reach a stopped server is, sooner or later, given the
    server's own port and connects to itself; and the server could not be started again there. For the same reason
    the port stays ours while this process lives: another run of the tests does not get it while our server is down.
    """
    end = int(_LOCAL_PORTS.read_text().split()[0])
    while True:
        port = random.randrange(_LOWEST_PORT, end)  # noqa: S311 (not a secret)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0 and _reserve(port):
                return port


def pause(pid: int, *, whole_session: bool = False) -> None:
    """Stop a process, or all of the session that it leads, by STOP; returns when none of its threads runs.

    One of them has to take the signal first: until it gets a processor, the others go on.
    """
    (os.killpg if whole_session else os.kill)(pid, signal.SIGSTOP)
    deadline = time.monotonic() + STOP_SECONDS
    while _runs(pid):
        assert time.monotonic() < deadline, f"process {pid} was not stopped by STOP within {STOP_SECONDS} s"
        time.sleep(0.001)


def _runs(pid: int) -> bool:
    states = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
            states.append((thread / "stat").read_text().rpartition(")")[2].split()[0])
    return any(state not in "TtZX" for state in states)


def _reserve(port: int) -> bool:
    """Take the port's lock for the life of this process; false when a process of the tests has it."""
    _RESERVED.mkdir(exist_ok=True)
    lock = os.open(_RESERVED / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return False
    return True


def answers(port: int, question: bytes, answer: bytes) -> bool:
    """Whether a server at loopback `port` answers `question` with something that begins with `answer`."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.settimeout(2)
            connection.sendall(question)
            return connection.recv(len(answer)) == answer
    except OSError:
        return False


class ServerProcess:
    """A process that is started, stopped, killed and paused by its pid; its output goes to a file."""

    def __init__(self, name: str, output: Path) -> None:
        self._name = name
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, argv: list[str], environment: Mapping[str, str], ready: Callable[[], bool]) -> None:
        """Start `argv` and return when `ready()` holds. Fails with the server's output when it does not."""
        assert self._process is None, f"{self._name} runs already"
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                argv,
                env=dict(environment),
                cwd=self._output.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop it
            )
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.kill()
                said = self._output.read_text(errors="replace")[-4000:]
                raise AssertionError(f"{self._name} {'ended' if ended else 'did not answer'} while starting:\n{said}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it by TERM and wait; nothing when it does not run."""
        if self._process is not None:
            self.resume()
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            finally:
                self.kill()

    def kill(self) -> None:
        """End it and what it started by KILL, paused or not; nothing when it does not run."""
        if self._process is not None:
            process, self._process = self._process, None
            started = _descendants(process.pid)  # Erlang's are in groups of their own
            process.kill()
            process.wait()
            for pid in started:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def pause(self) -> None:
        """Stop it by STOP: its connections stay open and nobody answers on them."""
        assert self._process is not None, f"{self._name} does not run"
        pause(self._process.pid)

    def resume(self) -> None:
        """Let a paused one go on."""
        assert self._process is not None, f"{self._name} does not run"
        self._process.send_signal(signal.SIGCONT)

    @property
    def running(self) -> bool:
        """Whether it was started and neither stopped nor killed (a paused one runs)."""
        return self._process is not None


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(FileNotFoundError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                found += [child, *_descendants(child)]
    return found
