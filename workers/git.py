"""Clone, checkout and diff: always in a helper sandbox, never on the host (isolation-and-faults.md §5.4)."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from orchestrator.manifest import Repository
from orchestrator.manifest.git_names import (
    SSH_PORT,
    TRANSPORTS,
    file_url_path,
    repository_url_fault,
    ssh_address,
    without_password,
)
from orchestrator.outcomes import Fault, Outcome, Reason, failure
from workers import disk_outcomes
from workers.egress import EgressReport
from workers.git_access import Access, UnusableCredential, https_access, ssh_access
from workers.git_scripts import CLONE, DIFF, ENVIRONMENT, NO_HOST_KEY, PERMANENT
from workers.helper import HelperResult, run_helper
from workers.sandbox.port import Mount, SandboxBackend, SandboxSpec
from workers.workspace import GIT_OUT_TARGET, WORKSPACE_TARGET, AttemptDirectory

TRIES = 3
BACKOFF_SECONDS = 1.0
REPOSITORY_TARGET = "/repository"
MAX_KNOWN_HOSTS_BYTES = 1 << 20
PATCH_NAME = "patch"
NO_SPACE = "No space left on device"


class CloneFailed(Exception):
    """The repository could not be put into the workspace."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


class PatchFailed(Exception):
    """No patch could be made; the message says why, in git's words."""


@dataclass(frozen=True, slots=True)
class GitSandbox:
    """How a git helper is made and stopped. `deadline` is monotonic."""

    backend: SandboxBackend
    spec_with: Callable[[tuple[Mount, ...]], SandboxSpec]
    interrupted: Callable[[], bool]
    deadline: float
    network: Callable[[str], AbstractContextManager[EgressReport]] | None = None

    def run(
        self,
        script: str,
        variables: dict[str, str],
        mounts: tuple[Mount, ...],
        cwd: str,
        files: Mapping[str, str] = MappingProxyType({}),
    ) -> HelperResult:
        """Run `script` to its end; `files` (path to text) lie on the helper's tmpfs before it begins."""
        return run_helper(
            self.backend,
            self.spec_with(mounts),
            ["/bin/sh", "-c", script],
            {**ENVIRONMENT, **variables},
            directory=cwd,
            interrupted=self.interrupted,
            deadline=self.deadline,
            network=self.network,
            files=files,
        )


@dataclass(frozen=True, slots=True)
class Credentials:
    """`value` is that of `repository.credential`; `known_hosts` the file of the keys of ssh hosts."""

    value: str | None = field(default=None, repr=False)
    known_hosts: Path = Path("/etc/ssh/ssh_known_hosts")


def clone(
    git: GitSandbox,
    repository: Repository,
    directory: AttemptDirectory,
    say: Callable[[str], None],
    credentials: Credentials = Credentials(),
) -> str:
    """Clone into the workspace; return the checked-out commit. Raise `CloneFailed`, `HelperStopped`."""
    mounts = [Mount(directory.workspace, WORKSPACE_TARGET)]
    local = file_url_path(repository.url)
    if local is not None:
        path = Path(os.path.realpath(local))
        if not path.is_dir():
            raise CloneFailed(_permanent(repository, f"there is no directory {path} on this worker"))
        mounts.append(Mount(path, REPOSITORY_TARGET, read_only=True))
        access = Access(f"file://{REPOSITORY_TARGET}", "file")
    else:
        access = _access(repository, credentials)
    variables = {
        "SOURCE": access.source,
        "URL": without_password(repository.url),
        "PROXY": access.proxy,
        "SSH_HOST": access.ssh_host,
        "GIT_ALLOW_PROTOCOL": access.protocols,
        "BRANCH": repository.branch or "",
        "COMMIT": repository.commit or "",
        "DEPTH": str(repository.depth or ""),
        "SUBMODULES": "1" if repository.submodules else "",
        "SUBPATH": repository.subpath or "",
    }
    say(f"cloning {variables['URL']}")

    def run() -> HelperResult:
        return git.run(CLONE, variables, tuple(mounts), "/", access.files)

    try:
        return _with_retries(git, run, repository, directory, say)
    except _NoHostKey:
        raise CloneFailed(_unknown_host(repository, access, credentials)) from None


def _access(repository: Repository, credentials: Credentials) -> Access:
    """The manifest's check has refused other URLs; but here one becomes arguments and a configuration of ssh."""
    if (fault := repository_url_fault(repository.url)) is not None:
        raise CloneFailed(_permanent(repository, f"{fault}; use {TRANSPORTS}"))
    try:
        if ssh_address(repository.url) is None:
            return https_access(repository, credentials.value)
        return ssh_access(repository, credentials.value, _known_hosts(credentials.known_hosts))
    except UnusableCredential as error:
        raise CloneFailed(_permanent(repository, str(error))) from None


def _known_hosts(file: Path) -> str:
    """The operator's file; one that is not there knows no host, which the clone will say."""
    try:
        with file.open("rb") as opened:
            found = opened.read(MAX_KNOWN_HOSTS_BYTES + 1)
    except FileNotFoundError:
        return ""
    if len(found) > MAX_KNOWN_HOSTS_BYTES:
        message = f"{file} has more than {MAX_KNOWN_HOSTS_BYTES:,} bytes, and all of it goes into the sandbox"
        hint = "name a file of the hosts of repositories only in SANDBOX_SSH_KNOWN_HOSTS"
        raise CloneFailed(failure(Reason.CLONE_FAILED, message, hint=hint))
    return found.replace(b"\0", b"").decode(errors="replace")


def _unknown_host(repository: Repository, access: Access, credentials: Credentials) -> Outcome:
    host, port = ssh_address(repository.url) or ("", SSH_PORT)
    message = (
        f"{without_password(repository.url)} could not be cloned: the key of {access.ssh_host} is not among the known "
        f"hosts of this worker ({credentials.known_hosts})"
    )
    hint = (
        f"the operator adds the line of `ssh-keyscan -p {port} {host}` to that file (SANDBOX_SSH_KNOWN_HOSTS), after "
        "comparing the key with the one that the host's owner publishes"
    )
    return failure(Reason.CLONE_FAILED, message, hint=hint, fault=Fault.USER)


class _NoHostKey(Exception):
    """Ssh was not tried: the key of the host is not known."""


def _with_retries(
    git: GitSandbox,
    run: Callable[[], HelperResult],
    repository: Repository,
    directory: AttemptDirectory,
    say: Callable[[str], None],
) -> str:
    shown = without_password(repository.url)
    for attempt in range(1, TRIES + 1):
        result = run()
        if result.exit_code == 0:
            commit = result.stdout.split()[-1]
            say(f"checked out {commit}")
            return commit
        if result.exit_code == NO_HOST_KEY:
            raise _NoHostKey
        words = last_words(result).replace(f"file://{REPOSITORY_TARGET}", shown)
        if disk_was_full(result):
            raise CloneFailed(disk_outcomes.of_clone(shown, words))
        if result.exit_code in PERMANENT or (result.egress and result.egress.denied):
            raise CloneFailed(_permanent(repository, words))
        if attempt < TRIES:
            say(f"clone failed ({words}); try {attempt + 1} of {TRIES} follows")
            directory.create()
            _pause(git, BACKOFF_SECONDS * 2 ** (attempt - 1))
    message = f"{shown} could not be cloned in {TRIES} tries: {words}"
    hint = "check repository.url, and that this worker (for file://, user id 1000) can read the repository"
    raise CloneFailed(failure(Reason.CLONE_FAILED, message, hint=hint))


def make_patch(git: GitSandbox, directory: AttemptDirectory, commit: str) -> Path | None:
    """Write the workspace's changes since `commit` to a file; None when nothing changed. Raise `PatchFailed`."""
    mounts = (
        Mount(directory.workspace, WORKSPACE_TARGET, read_only=True),
        Mount(directory.git_out, GIT_OUT_TARGET),
    )
    variables = {"COMMIT": commit, "GIT_ALLOW_PROTOCOL": "none"}
    result = git.run(DIFF, variables, mounts, "/")
    if result.exit_code != 0:
        raise PatchFailed(f"no patch could be made: {last_words(result)}")
    directory.unlock()
    patch = directory.git_out / PATCH_NAME
    try:
        found = patch.lstat()
    except OSError as error:
        words = f"what git had written cannot be read ({error.strerror}); a filter of the repository may remove it"
        raise PatchFailed(f"no patch could be made: {words}") from error
    if not stat.S_ISREG(found.st_mode):  # a program that the task's configuration names ran beside git
        raise PatchFailed("no patch could be made: a filter of the repository replaced it by something else")
    return patch if found.st_size else None


def last_words(result: HelperResult) -> str:
    """Git's own message: its last lines that say something, and what the proxy refused or did not reach.

    Ssh, which git calls, says why it failed in one line of its own before git's.
    """
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    said = [line.startswith(("fatal:", "error:", "remote:")) for line in lines]
    if True in said[1:] and not lines[said.index(True) - 1].startswith("Cloning into"):
        said[said.index(True) - 1] = True
    telling = [line for line, chosen in zip(lines, said, strict=True) if chosen]
    words = (telling or lines)[-3:]
    if result.egress:  # for plain http git has shown it already
        network = [*result.egress.denied[:3], *result.egress.failed[:3]]
        words += [one for one in network if not any(one in word for word in words)]
    return "; ".join(words) or f"git ended with exit code {result.exit_code}"


def disk_was_full(result: HelperResult) -> bool:
    """Tell whether the helper was refused space. By git's words, because a clone that fails removes what it wrote.

    They are the C library's, in the locale that the helper is given; a line of the remote side is about its own disk.
    """
    return any(NO_SPACE in line and not line.startswith("remote:") for line in result.stderr.splitlines())


def _pause(git: GitSandbox, seconds: float) -> None:
    end = min(time.monotonic() + seconds, git.deadline)
    while time.monotonic() < end and not git.interrupted():
        time.sleep(0.1)


def _permanent(repository: Repository, words: str) -> Outcome:
    message = f"{without_password(repository.url)} could not be checked out: {words}"
    hint = "correct repository.url, branch, commit, submodules, subpath or credential in the manifest"
    return failure(Reason.CLONE_FAILED, message, hint=hint, fault=Fault.USER)
