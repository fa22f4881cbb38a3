"""Clone, checkout and diff: always in a helper sandbox, never on the host (isolation-and-faults.md §5.4)."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.manifest import Repository
from orchestrator.manifest.git_names import file_url_path
from orchestrator.outcomes import Fault, Outcome, Reason, failure
from workers.egress import EgressReport
from workers.git_scripts import CLONE, DIFF, ENVIRONMENT, PERMANENT
from workers.helper import HelperResult, run_helper
from workers.sandbox.port import Mount, SandboxBackend, SandboxSpec
from workers.workspace import GIT_OUT_TARGET, WORKSPACE_TARGET, AttemptDirectory

TRIES = 3
BACKOFF_SECONDS = 1.0
REPOSITORY_TARGET = "/repository"
PROXY = "http://127.0.0.1:3128"
PATCH_NAME = "patch"


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
    network: Callable[[int], AbstractContextManager[EgressReport]] | None = None

    def run(self, script: str, variables: dict[str, str], mounts: tuple[Mount, ...], cwd: str) -> HelperResult:
        return run_helper(
            self.backend,
            self.spec_with(mounts),
            ["/bin/sh", "-c", script],
            {**ENVIRONMENT, **variables},
            directory=cwd,
            interrupted=self.interrupted,
            deadline=self.deadline,
            network=self.network,
        )


def clone(git: GitSandbox, repository: Repository, directory: AttemptDirectory, say: Callable[[str], None]) -> str:
    """Clone into the workspace; return the checked-out commit. Raise `CloneFailed`, `HelperStopped`."""
    mounts = [Mount(directory.workspace, WORKSPACE_TARGET)]
    source, credential = split_credential(repository.url)
    proxy, protocols = PROXY, "https:http"
    local = file_url_path(repository.url)
    if local is not None:
        path = Path(os.path.realpath(local))
        if not path.is_dir():
            raise CloneFailed(_permanent(repository, f"there is no directory {path} on this worker"))
        mounts.append(Mount(path, REPOSITORY_TARGET, read_only=True))
        source, proxy, protocols = f"file://{REPOSITORY_TARGET}", "", "file"
    elif not repository.url.startswith(("https://", "http://")):
        raise CloneFailed(_permanent(repository, "ssh needs a key, which this version cannot hand in; use https://"))
    variables = {
        "SOURCE": source,
        "CREDENTIAL": credential,
        "URL": without_password(repository.url),
        "PROXY": proxy,
        "GIT_ALLOW_PROTOCOL": protocols,
        "BRANCH": repository.branch or "",
        "COMMIT": repository.commit or "",
        "DEPTH": str(repository.depth or ""),
        "SUBMODULES": "1" if repository.submodules else "",
        "SUBPATH": repository.subpath or "",
    }
    say(f"cloning {variables['URL']}")
    return _with_retries(git, repository, variables, tuple(mounts), directory, say=say)


def _with_retries(
    git: GitSandbox,
    repository: Repository,
    variables: dict[str, str],
    mounts: tuple[Mount, ...],
    directory: AttemptDirectory,
    *,
    say: Callable[[str], None],
) -> str:
    for attempt in range(1, TRIES + 1):
        result = git.run(CLONE, variables, mounts, "/")
        if result.exit_code == 0:
            commit = result.stdout.split()[-1]
            say(f"checked out {commit}")
            return commit
        words = last_words(result).replace(f"file://{REPOSITORY_TARGET}", variables["URL"])
        if result.exit_code in PERMANENT or (result.egress and result.egress.denied):
            raise CloneFailed(_permanent(repository, words))
        if attempt < TRIES:
            say(f"clone failed ({words}); try {attempt + 1} of {TRIES} follows")
            directory.create()
            _pause(git, BACKOFF_SECONDS * 2 ** (attempt - 1))
    message = f"{variables['URL']} could not be cloned in {TRIES} tries: {words}"
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
    patch = directory.git_out / PATCH_NAME
    found = patch.lstat()
    if not stat.S_ISREG(found.st_mode):  # a program that the task's configuration names ran beside git
        raise PatchFailed("no patch could be made: a filter of the repository replaced it by something else")
    return patch if found.st_size else None


def split_credential(url: str) -> tuple[str, str]:
    """Return an http(s) URL without its user information, and a line for git's credential store ("" for none).

    A user name alone is a token with an empty password: git could ask nobody for one.
    """
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at or parts.scheme not in ("http", "https"):
        return url, ""
    known = user if ":" in user else f"{user}:"
    return parts._replace(netloc=host).geturl(), f"{parts.scheme}://{known}@{host}"


def without_password(url: str) -> str:
    """The URL as it may be shown and stored: of user information only the user of ssh is kept."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return url
    shown = f"{user.split(':')[0]}@{host}" if parts.scheme == "ssh" else host
    return parts._replace(netloc=shown).geturl()


def last_words(result: HelperResult) -> str:
    """Git's own message: its last lines that say something, and what the proxy refused or did not reach."""
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "remote:"))]
    words = (telling or lines)[-3:]
    if result.egress:  # for plain http git has shown it already
        network = [*result.egress.denied[:3], *result.egress.failed[:3]]
        words += [one for one in network if not any(one in word for word in words)]
    return "; ".join(words) or f"git ended with exit code {result.exit_code}"


def _pause(git: GitSandbox, seconds: float) -> None:
    end = min(time.monotonic() + seconds, git.deadline)
    while time.monotonic() < end and not git.interrupted():
        time.sleep(0.1)


def _permanent(repository: Repository, words: str) -> Outcome:
    message = f"{without_password(repository.url)} could not be checked out: {words}"
    hint = "correct repository.url, branch, commit, submodules or subpath in the manifest"
    return failure(Reason.CLONE_FAILED, message, hint=hint, fault=Fault.USER)
