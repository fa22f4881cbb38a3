"""The directories of one attempt on the host, and how they are owned."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from orchestrator.models import Claim
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
    def git_out(self) -> Path:
        return self.root / "git-out"

    def create(self) -> None:
        """Make the directories; what an earlier, dead try left under the same name is removed first."""
        self.destroy()
        self.root.mkdir(parents=True, mode=0o711)
        user = sandbox_user_id()
        for directory in (self.workspace, self.home, self.git_out):
            directory.mkdir(mode=0o755)
            if os.geteuid() == 0:
                os.chown(directory, user, user)
        self.inbox.mkdir(mode=0o755)
        self.spool.mkdir(mode=0o700)

    def put_script(self, script: str) -> None:
        """Store the task's script. As an argument it could hold 128 KiB only."""
        path = self.inbox / SCRIPT_NAME
        path.write_text(script)
        path.chmod(0o444)

    @staticmethod
    def script_path() -> str:
        """Where the script lies inside the sandbox."""
        return f"{INBOX_TARGET}/{SCRIPT_NAME}"

    def destroy(self) -> None:
        """Remove everything. `rmtree` follows no link, and nothing of the task runs any more."""
        shutil.rmtree(self.root, ignore_errors=False, onerror=_unlock) if self.root.exists() else None

    def task_mounts(self) -> tuple[Mount, ...]:
        return (
            Mount(self.workspace, WORKSPACE_TARGET),
            Mount(self.home, HOME_TARGET),
            Mount(self.inbox, INBOX_TARGET, read_only=True),
        )


def _unlock(function: object, path: str, _error: object) -> None:
    """A task may leave directories without write permission; a worker that is not root opens them first."""
    target = Path(path)
    if not target.parent.exists():
        return
    target.parent.chmod(0o700)
    if target.is_dir() and not target.is_symlink():
        target.chmod(0o700)
        shutil.rmtree(target, ignore_errors=True)
    else:
        target.unlink(missing_ok=True)
