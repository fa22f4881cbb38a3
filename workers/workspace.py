"""The directories of one attempt on the host, and how they are owned."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from orchestrator.models import Claim
from workers import tree
from workers.sandbox.port import Mount

SANDBOX_USER_ID = 1000
"""Fixed and not root (CIS 4.1). A worker that is not root can own nothing else: its sandboxes run as itself."""

WORKSPACE_TARGET = "/workspace"
HOME_TARGET = "/home/agent"
INBOX_TARGET = "/opt/sandbox-inbox"
GIT_OUT_TARGET = "/git-out"
SCRIPT_NAME = "script"


def sandbox_user_id() -> int:
    return os.geteuid() or SANDBOX_USER_ID


@dataclass(frozen=True, slots=True)
class AttemptDirectory:
    """Where an attempt lives below the work directory. The name is safe: ids match `[A-Za-z0-9._-]+`."""

    root: Path

    @classmethod
    def of(cls, work_dir: Path, claim: Claim) -> AttemptDirectory:
        return cls(work_dir / f"{claim.task_id}.{claim.attempt}")

    @property
    def workspace(self) -> Path:
        return self.root / "workspace"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def inbox(self) -> Path:
        return self.root / "inbox"

    @property
    def spool(self) -> Path:
        return self.root / "spool"

    @property
    def log_marker_file(self) -> Path:
        return self.root / "log-marker"

    def log_marker(self) -> str | None:
        """What the launcher prints first on both streams, known to no sandbox; None in an older version's attempt."""
        try:
            return self.log_marker_file.read_text(encoding="ascii")
        except FileNotFoundError:
            return None

    @property
    def stopped_by_keeper(self) -> Path:
        """A mark: the keeper began to stop this sandbox."""
        return self.root / "stopped-by-keeper"

    @property
    def git_out(self) -> Path:
        return self.root / "git-out"

    def create(self) -> None:
        """Make the directories; what an earlier, dead try left under the same name is removed first."""
        self.destroy()
        self.root.mkdir(parents=True)
        self.root.chmod(0o711)
        user = sandbox_user_id()
        for directory in (self.workspace, self.home, self.git_out):
            _make(directory, 0o755)
            if os.geteuid() == 0:
                os.chown(directory, user, user)
        _make(self.inbox, 0o755)
        _make(self.spool, 0o700)
        self.log_marker_file.touch(0o600)
        self.log_marker_file.write_text(f"sandboxlog{secrets.token_hex(16)}", encoding="ascii")

    def put_script(self, script: str) -> None:
        """Store the task's script. As an argument it could hold 128 KiB only."""
        path = self.inbox / SCRIPT_NAME
        path.write_text(script, encoding="utf-8")
        path.chmod(0o444)

    @staticmethod
    def script_path() -> str:
        """Where the script lies inside the sandbox."""
        return f"{INBOX_TARGET}/{SCRIPT_NAME}"

    def destroy(self) -> None:
        """Remove everything; nothing of the task runs any more."""
        tree.remove(self.root)

    def task_mounts(self) -> tuple[Mount, ...]:
        return (
            Mount(self.workspace, WORKSPACE_TARGET),
            Mount(self.home, HOME_TARGET),
            Mount(self.inbox, INBOX_TARGET, read_only=True),
        )


def _make(directory: Path, mode: int) -> None:
    """Make a directory of exactly this mode: an operator's umask would hide the script from the sandbox's user."""
    directory.mkdir()
    directory.chmod(mode)
