"""An ssh server of the test's own on loopback: the user of the test run, one key, and git only."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import missing
from tests.servers.process import ServerProcess, answers, free_port

_PATHS = f"{os.defpath}:/usr/sbin"
_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/host
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AuthorizedKeysFile {directory}/authorized
"""


@dataclass
class SshServer:
    """Serves the repositories of this machine that the user of the test run can read. Log in `directory`."""

    directory: Path
    port: int = 0
    _process: ServerProcess | None = None

    def start(self) -> None:
        """Make the keys and start; returns when it answers. Skips the test (fails under CI) without sshd."""
        program = shutil.which("sshd", path=_PATHS)
        if program is None:
            missing("sshd", "apt-get install openssh-server, or run .ci/install")
        self.directory.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd wants it; Debian's unit makes it otherwise
        for name in ("host", "client", "stranger"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(self.directory / name)]
            subprocess.run(command, check=True)
        only_git = 'restrict,command="git-shell -c \\"$SSH_ORIGINAL_COMMAND\\""'
        (self.directory / "authorized").write_text(f"{only_git} {(self.directory / 'client.pub').read_text()}")
        self.port = free_port()
        config = self.directory / "config"
        config.write_text(_CONFIG.format(port=self.port, directory=self.directory))
        self._process = ServerProcess("sshd", self.directory / "sshd.log")
        argv = [str(program), "-D", "-e", "-f", str(config)]
        self._process.start(argv, {"PATH": _PATHS}, lambda: answers(self.port, b"", b"SSH-2.0"))

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    @property
    def private_key(self) -> str:
        return (self.directory / "client").read_text()

    def url(self, path: Path) -> str:
        return f"ssh://{getpass.getuser()}@localhost:{self.port}{path}"

    def known_hosts_line(self, key: str = "host") -> str:
        """What the operator of a worker adds; `key="stranger"` is another server's."""
        return f"[localhost]:{self.port} {(self.directory / f'{key}.pub').read_text()}"
