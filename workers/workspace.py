"""The directories of one attempt on the host, and how they are owned."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.models import Claim
from workers import task_disk
from workers.sandbox.port import Mount

SANDBOX_USER_ID = 1000
"""Fixed and not root (CIS 4.1). A worker that is not root can own nothing else: its sandboxes run as itself."""

WORKSPACE_TARGET = "/workspace"
HOME_TARGET = "/home/agent"
INBOX_TARGET = "/opt/sandbox-inbox"
GIT_OUT_TARGET = "/git-out"
SCRIPT_NAME = "script"
INPUT_NAME = "input"
PRIVATE_TARGET = "/tmp/.task"  # noqa: S108 - inside the sandbox, on a tmpfs of its own


def sandbox_user_id() -> int:
    return os.geteuid() or SANDBOX_USER_ID


@dataclass(frozen=True, slots=True)
class Owner:
    """A user and a group of the host."""

    user_id: int
    group_id: int


def sandbox_owner(first_user_id: int = 0, first_group_id: int = 0) -> Owner:
    """Who a sandbox's user is on the host, where root in a sandbox is `first_user_id`."""
    return Owner(first_user_id + sandbox_user_id(), first_group_id + sandbox_user_id())


def _unlimited_disk(root: Path) -> None:
    task_disk.WatchedDisk().create(root, 0)


@dataclass(frozen=True, slots=True)
class AttemptDirectory:
    """Where an attempt lives below the work directory. The name is safe: ids match `[A-Za-z0-9._-]+`.

    `make_disk(root)` makes `disk` (see `task_disk`), on which lies all that a task may write; that is `owner()`'s.
    """

    root: Path
    make_disk: Callable[[Path], None] = field(default=_unlimited_disk, compare=False)
    owner: Callable[[], Owner] = field(default=sandbox_owner, compare=False)

    @classmethod
    def of(
        cls,
        work_dir: Path,
        claim: Claim,
        make_disk: Callable[[Path], None] = _unlimited_disk,
        owner: Callable[[], Owner] = sandbox_owner,
    ) -> AttemptDirectory:
        return cls(work_dir / f"{claim.task_id}.{claim.attempt}", make_disk, owner)

    @property
    def disk(self) -> Path:
        return self.root / task_disk.TOP_NAME

    @property
    def _writable(self) -> Path:
        """An older version's attempt has no disk: its directories lie beside the others."""
        return self.disk if self.disk.is_dir() else self.root

    @property
    def workspace(self) -> Path:
        return self._writable / "workspace"

    @property
    def home(self) -> Path:
        return self._writable / "home"

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
    def agent_stream(self) -> Path:
        """What an agent printed, without its secrets, as it is stored."""
        return self.root / "agent-stream"

    @property
    def agent_answer(self) -> Path:
        return self.root / "agent-answer"

    @property
    def input(self) -> Path:
        """Where what is sent to an interactive agent appears, in files that only this worker writes."""
        return self.inbox / INPUT_NAME

    @property
    def secrets_seal(self) -> Path:
        """A salted hash of the secrets' values, by which a later worker knows them again."""
        return self.root / "secrets-seal"

    @property
    def stopped_by_keeper(self) -> Path:
        """A mark: the keeper began to stop this sandbox."""
        return self.root / "stopped-by-keeper"

    @property
    def egress(self) -> Path:
        """Where the socket of a sidecar lies, if the attempt's sandbox has one. Made when it is needed."""
        return self.root / "egress"

    @property
    def git_out(self) -> Path:
        return self._writable / "git-out"

    def create(self) -> None:
        """Make the directories; what an earlier, dead try left under the same name is removed first.

        Raises `OSError`, and what `make_disk` and `owner` raise.
        """
        owner = self.owner()
        self.destroy()
        self.root.mkdir(parents=True)
        self.root.chmod(0o711)
        self.make_disk(self.root)
        for directory in (self.workspace, self.home, self.git_out):
            _make(directory, 0o755)
            if os.geteuid() == 0:
                os.chown(directory, owner.user_id, owner.group_id)
        _make(self.inbox, 0o755)
        _make(self.input, 0o755)
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

    def put_input(self, name: str, text: str) -> None:
        """Let a text appear in the inbox, whole or not at all. Raises `OSError`."""
        hidden = self.input / f".{name}"
        hidden.unlink(missing_ok=True)  # a worker that died here left it, and nobody may write to it
        hidden.write_text(text, encoding="utf-8")
        hidden.chmod(0o444)
        hidden.rename(self.input / name)

    def inputs(self) -> int:
        """How many texts have appeared; they are numbered from 1."""
        if not self.input.is_dir():
            return 0
        return sum(one.name.isdecimal() for one in self.input.iterdir())

    def unlock(self) -> None:
        """Open again what a task has closed for its own user: this worker, where that is not root."""
        if os.geteuid() != 0:
            for directory in (self.workspace, self.git_out):
                with suppress(OSError):  # not there, or another user's: whoever reads it will say so
                    directory.chmod(0o700)

    def discard_spool(self) -> None:
        """Remove what a sandbox has printed, which is stored by now: here its secrets are not masked.

        Raises `OSError`.
        """
        with suppress(FileNotFoundError):
            shutil.rmtree(self.spool)

    def discard_output(self) -> None:
        """Remove what a sandbox that ended has printed, and the seal of its secrets. Raises `OSError`."""
        self.discard_spool()
        self.secrets_seal.unlink(missing_ok=True)

    def destroy(self, *, wait: bool = True) -> None:
        """Remove everything; nothing of the task runs any more. Raises `OSError` when something cannot be removed.

        Somebody who is at work in it is waited for, or, without `wait`, a reason to raise `BlockingIOError`.
        """
        task_disk.destroy(self.root, wait=wait)

    def restore(self) -> None:
        """Mount the disk again, if a boot of the host has unmounted it. Raises `OSError`."""
        task_disk.restore(self.root)

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
