"""A Docker Engine of the test's own, beside the host's: it may be killed, paused and restarted.

It has its own mount and network namespaces. Without the first its mounts would be the host's; without the second
it would take the host engine's bridge away. It shares the process ids: a worker enters the network namespaces of
containers by the ids the engine tells. Nobody but root can start one.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from tests.conftest import missing
from tests.servers.process import ServerProcess

_END_SECONDS = 30.0
_CGROUPS = Path("/sys/fs/cgroup")
# Its shims' sockets lie at a fixed place below /run, whatever the engine's directories are.
_HOLD = "mount -t tmpfs none /run && {more}echo held && exec sleep infinity"
_REMAPPED_USER = "daemon"
"""A user and a group of every Debian; which host ids are its own is told to this engine alone."""


class Engine:
    """A dockerd with its own containerd. All it has is in `directory`, whose path must be short (a socket's is).

    `configuration` is its daemon.json. With `first_user_id` it maps user ids (userns-remap): root in a container is
    that user of the host, and every directory above `directory` must let others pass.
    """

    def __init__(
        self, directory: Path, configuration: Mapping[str, Any] | None = None, first_user_id: int | None = None
    ) -> None:
        self._directory = directory
        self._configuration = dict(configuration or {})
        self._first_user_id = first_user_id
        if first_user_id is not None:
            self._configuration["userns-remap"] = _REMAPPED_USER
        self._cgroup = f"sandbox-{directory.name}"
        self._process = ServerProcess("dockerd", directory / "dockerd.log")
        self._holder: subprocess.Popen[str] | None = None
        self._mount_namespace = Path()

    @property
    def environment(self) -> dict[str, str]:
        """What makes a worker, and the `docker` program, use this engine."""
        return {"DOCKER_HOST": f"unix://{self._directory}/docker.sock"}

    def start(self, *, live_restore: bool = False) -> None:
        """Start it; returns when it answers. Skips the test (fails under CI) where it cannot run."""
        program = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if program is None or os.geteuid() != 0:
            missing("a second Docker Engine", "install the package docker.io, and run the tests as root")
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / "daemon.json").write_text(json.dumps(self._configuration))
        argv = ["nsenter", f"--target={self._namespaces()}", "--mount", "--net", str(program)]
        argv += [f"--{name}={text}" for name, text in self._options(live_restore=live_restore).items()]
        self._process.start(argv, os.environ, self.answers)

    def answers(self) -> bool:
        """Whether it answers a request within 5 seconds."""
        with suppress(subprocess.TimeoutExpired):
            return self._docker("version", timeout=5).returncode == 0
        return False

    def load(self, archive: Path) -> None:
        """Give it the images in an archive that `docker save` made."""
        done = self._docker("load", "--quiet", "--input", str(archive), timeout=300)
        assert done.returncode == 0, f"docker load ended with {done.returncode}: {done.stderr}"

    def stop(self) -> None:
        """End it in order: with live-restore its containers go on, else they are stopped first."""
        self._process.stop()
        self._forget_containerd()

    def kill(self) -> None:
        """End it as a crash would. Its containers go on, whoever will look after them."""
        self._process.kill()
        self._forget_containerd()

    def pause(self) -> None:
        """Let it hang: connections stay open and nobody answers."""
        self._process.pause()

    def resume(self) -> None:
        """Let it answer again."""
        self._process.resume()

    def close(self) -> None:
        """End it with everything it started, and remove what it had."""
        self._process.kill()
        deadline = time.monotonic() + _END_SECONDS
        while members := list(self._members()):
            assert time.monotonic() < deadline, f"processes of the engine in {self._directory} do not end: {members}"
            for member in members:
                with suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)
            if self._holder is not None:
                self._holder.poll()  # reaped, or it would be listed for ever
            time.sleep(0.05)
        if self._holder is not None:
            self._holder.communicate()
            self._holder = None
        self._remove_cgroups(deadline)
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _options(self, *, live_restore: bool) -> Mapping[str, str]:
        directory = self._directory
        return {
            "host": f"unix://{directory}/docker.sock",
            "config-file": f"{directory}/daemon.json",
            "data-root": f"{directory}/data",
            "exec-root": f"{directory}/exec",
            "pidfile": f"{directory}/docker.pid",
            "cgroup-parent": f"/{self._cgroup}",
            "live-restore": "true" if live_restore else "false",
            "shutdown-timeout": "5",
            "bridge": "none",
            "iptables": "false",
            "ip6tables": "false",
            "ip-forward": "false",
            "userland-proxy": "false",
        }

    def _namespaces(self) -> int:
        """The id of the process that holds the namespaces: they outlive a killed engine, as its containers do."""
        if self._holder is None:
            # Mounts of a worker are to reach the engine, and the engine's are not to reach the host.
            held = _HOLD.format(more=self._own_ids())
            argv = ["unshare", "--mount", "--net", "--propagation=slave", "sh", "-c", held]
            self._holder = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
            assert self._holder.stdout is not None
            said = self._holder.stdout.readline()
            assert said == "held\n", f"no namespaces for the engine in {self._directory}: see the test's stderr"
            self._mount_namespace = Path(f"/proc/{self._holder.pid}/ns/mnt").readlink()
        return self._holder.pid

    def _own_ids(self) -> str:
        """Shell words that let this engine read its own range of ids."""
        if self._first_user_id is None:
            return ""
        ranges = self._directory / "ids"
        ranges.write_text(f"{_REMAPPED_USER}:{self._first_user_id}:65536\n")
        return "".join(f"mount --bind {ranges} {file} && " for file in ("/etc/subuid", "/etc/subgid"))

    def _forget_containerd(self) -> None:
        """Its containerd dies with it. Where the init process is slow to reap, the next dockerd would believe in it."""
        file = self._directory / "exec/containerd/containerd.pid"
        if file.exists():
            process, deadline = Path("/proc") / file.read_text().strip(), time.monotonic() + _END_SECONDS
            while _lives(process):
                assert time.monotonic() < deadline, f"containerd {process.name} does not end with its dockerd"
                time.sleep(0.02)
            file.unlink()

    def _members(self) -> Iterator[int]:
        """Ids of all live processes in the engine's mount namespace or below its control group."""
        if self._holder is None:
            return
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with suppress(OSError):
                if self._is_member(entry):
                    yield int(entry.name)

    def _is_member(self, process: Path) -> bool:
        if not _lives(process):
            return False
        if f"/{self._cgroup}/" in process.joinpath("cgroup").read_text():
            return True
        return process.joinpath("ns/mnt").readlink() == self._mount_namespace

    def _remove_cgroups(self, deadline: float) -> None:
        for top in [*_CGROUPS.glob(f"*/{self._cgroup}"), *_CGROUPS.glob(self._cgroup)]:
            for group in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
                _remove_cgroup(group, deadline)
            _remove_cgroup(top, deadline)

    def _docker(self, *command: str, timeout: float) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.environment}
        argv = ["docker", *command]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=timeout)


def _lives(process: Path) -> bool:
    """Whether a process (a directory in /proc) is there and no zombie."""
    try:
        return process.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _remove_cgroup(group: Path, deadline: float) -> None:
    """The kernel lets go of a group a moment after its last process has ended."""
    while True:
        try:
            return group.rmdir()
        except FileNotFoundError:
            return None
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def save_images(archive: Path, *images: str) -> Path:
    """Write images of the host's engine into an archive."""
    subprocess.run(["docker", "save", "--output", str(archive), *images], check=True, stdin=subprocess.DEVNULL)
    return archive
