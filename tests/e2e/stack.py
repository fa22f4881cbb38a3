"""`sandbox up` as a process, on free ports and a directory of its own, and what it leaves on the host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.servers.process import free_port

WAIT_SECONDS = 60.0


def eventually(what: str, check: Callable[[], object], seconds: float = WAIT_SECONDS) -> object:
    """Poll until `check` is true; return what it gave."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


@dataclass
class Product:
    """A running `sandbox up`. `environment` are settings over those of the test run."""

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    working_directory: Path | None = None
    wrapper: tuple[str, ...] = ()
    """A program that the product is started by."""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_file(self) -> Path:
        return self.directory.parent / f"{self.directory.name}.log"

    def start(self) -> None:
        argv = [*self.wrapper, sys.executable, "-m", "orchestrator.cli", "up", "--port", str(self.port)]
        argv += ["--data-dir", str(self.directory), *self.options]
        environment = {**os.environ, **self.environment}
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                argv,
                env=environment,
                cwd=self.working_directory,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        eventually("the product is ready", self.is_ready)

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/api/v1/health/ready", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(number)
        code = self.process.wait(120)
        self.process = None
        return code

    def child(self, part: str) -> int:
        """The process id of `api` or `worker`."""
        assert self.process
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            if part in Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0"):
                return int(child)
        raise AssertionError(f"`up` has no {part}")

    def installation(self) -> str:
        import sqlite3

        with sqlite3.connect(self.directory / "store.db") as store:
            return str(store.execute("SELECT id FROM installation").fetchone()[0])

    def containers(self) -> list[str]:
        """Ids of all containers of this installation."""
        return labelled("ps", "--all", installation=self.installation())

    def work_directories(self) -> list[Path]:
        work = self.directory / "work"
        return list(work.iterdir()) if work.exists() else []


def labelled(*command: str, installation: str) -> list[str]:
    argv = ["docker", *command, "--quiet", "--filter", f"label=sandbox.installation={installation}"]
    return subprocess.run(argv, capture_output=True, check=True, text=True).stdout.split()


def mounts_below(directory: Path) -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line.split()[1] for line in lines if line.split()[1].startswith(str(directory))]


def loop_devices_below(directory: Path) -> list[str]:
    """Loop devices, with the file each is on, of files below a directory; also of files that are deleted."""
    argv = ["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"]
    lines = subprocess.run(argv, capture_output=True, check=True, text=True).stdout.splitlines()
    return [line for line in lines if str(directory) in line]


@contextmanager
def running_product(directory: Path, *, wrapper: tuple[str, ...] = (), **settings: str) -> Iterator[Product]:
    """A product of the test's own; afterwards nothing of it is left on the host."""
    product = Product(directory, environment=settings, wrapper=wrapper)
    product.start()
    try:
        yield product
    finally:
        product.stop()
        assert_clean(product)


def assert_clean(product: Product) -> None:
    """No container, network, volume, mount, loop device, work directory or keeper of this installation is left."""
    installation = product.installation()
    assert labelled("ps", "--all", installation=installation) == []
    assert labelled("network", "ls", installation=installation) == []
    assert labelled("volume", "ls", installation=installation) == []
    assert mounts_below(product.directory) == []
    assert loop_devices_below(product.directory) == []
    assert product.work_directories() == []
    eventually("the keeper has ended", lambda: not processes_with(str(product.directory)), 30)


def processes_with(text: str) -> dict[int, str]:
    """Live processes whose command line holds `text`: process id → command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found[int(entry.name)] = line
    return found
