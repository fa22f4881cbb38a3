"""Clone, checkout and diff: always in a helper sandbox, never on the host (isolation-and-faults.md §5.4)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from orchestrator.manifest import Repository
from orchestrator.outcomes import Fault, Outcome, Reason, failure
from workers.helper import HelperResult, run_helper
from workers.sandbox.port import Mount, SandboxBackend, SandboxSpec
from workers.workspace import GIT_OUT_TARGET, WORKSPACE_TARGET, AttemptDirectory

TRIES = 3
BACKOFF_SECONDS = 1.0
NO_SUCH_REF = 22
NO_SUCH_COMMIT = 23
REPOSITORY_TARGET = "/repository"
PROXY = "http://127.0.0.1:3128"
PATCH_NAME = "patch"

ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/tmp/gitconfig",  # noqa: S108 - the helper's own tmpfs; holds safe.directory only
    "LC_ALL": "C.UTF-8",
}

CLONE = r"""
set -eu
printf '[safe]\n\tdirectory = *\n[advice]\n\tdetachedHead = false\n' > "$GIT_CONFIG_GLOBAL"
git='git -c core.hooksPath=/dev/null -c core.fsmonitor=false'
if [ -n "$PROXY" ]; then git="$git -c http.proxy=$PROXY"; fi
if [ -n "$BRANCH" ]; then
  found=0; $git ls-remote --exit-code -- "$SOURCE" "refs/heads/$BRANCH" "refs/tags/$BRANCH" >/dev/null || found=$?
  if [ "$found" = 2 ]; then echo "fatal: Remote branch $BRANCH not found in upstream origin" >&2; exit 22; fi
  if [ "$found" != 0 ]; then exit 21; fi
fi
set -- --no-recurse-submodules
if [ -n "$BRANCH" ]; then set -- "$@" "--branch=$BRANCH"; fi
if [ -n "$DEPTH" ]; then set -- "$@" "--depth=$DEPTH"; fi
if [ -n "$BRANCH" ] || [ -z "$COMMIT" ]; then set -- "$@" --single-branch; fi
$git clone "$@" -- "$SOURCE" /workspace || exit 21
cd /workspace
if [ -n "$COMMIT" ]; then
  if [ -n "$DEPTH" ] && ! $git cat-file -e "$COMMIT^{commit}" 2>/dev/null; then
    $git fetch "--depth=$DEPTH" origin "$COMMIT" || exit 23
  fi
  $git rev-parse --quiet --verify "$COMMIT^{commit}" >/dev/null || {
    echo "fatal: commit $COMMIT is not in what was cloned" >&2; exit 23; }
  $git checkout --detach "$COMMIT" || exit 23
fi
if [ -n "$SUBMODULES" ]; then $git submodule update --init --recursive ${DEPTH:+--depth="$DEPTH"} || exit 21; fi
$git remote set-url origin "$URL"
if [ -n "$SUBPATH" ] && ! [ -d "$SUBPATH" ]; then
  echo "fatal: there is no directory $SUBPATH in the repository" >&2; exit 23
fi
git rev-parse HEAD
"""

# The index and the new objects are made outside the workspace, which is mounted read-only: nothing that the
# task left can be changed by the diff, and what its configuration runs, runs in this sandbox only.
DIFF = r"""
set -eu
printf '[safe]\n\tdirectory = *\n' > "$GIT_CONFIG_GLOBAL"
cd /workspace
mkdir -p /git-out/objects
export GIT_INDEX_FILE=/git-out/index GIT_OBJECT_DIRECTORY=/git-out/objects
export GIT_ALTERNATE_OBJECT_DIRECTORIES=/workspace/.git/objects
git='git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c core.untrackedCache=false -c gc.auto=0'
$git read-tree "$COMMIT"
$git add --all .
$git diff --cached --binary --no-ext-diff --no-textconv "$COMMIT" -- > /git-out/patch
rm -rf /git-out/objects /git-out/index
"""


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
    network: Callable[[int], AbstractContextManager[None]] | None = None

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
    source, proxy, protocols = repository.url, PROXY, "https:http"
    if repository.url.startswith("file://"):
        path = Path(os.path.realpath(unquote(urlsplit(repository.url).path)))
        if not path.is_dir():
            raise CloneFailed(_permanent(repository, f"there is no directory {path} on this worker"))
        mounts.append(Mount(path, REPOSITORY_TARGET, read_only=True))
        source, proxy, protocols = f"file://{REPOSITORY_TARGET}", "", "file"
    elif not repository.url.startswith(("https://", "http://")):
        raise CloneFailed(_permanent(repository, "ssh needs a key, which this version cannot hand in; use https://"))
    variables = {
        "SOURCE": source,
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
    return _with_retries(git, repository, variables, tuple(mounts), directory, say)


def _with_retries(
    git: GitSandbox,
    repository: Repository,
    variables: dict[str, str],
    mounts: tuple[Mount, ...],
    directory: AttemptDirectory,
    say: Callable[[str], None],
) -> str:
    for attempt in range(1, TRIES + 1):
        result = git.run(CLONE, variables, mounts, "/")
        if result.exit_code == 0:
            commit = result.stdout.split()[-1]
            say(f"checked out {commit}")
            return commit
        words = last_words(result)
        if result.exit_code in (NO_SUCH_REF, NO_SUCH_COMMIT):
            raise CloneFailed(_permanent(repository, words))
        if attempt < TRIES:
            say(f"clone failed ({words}); try {attempt + 1} of {TRIES} follows")
            directory.create()
            _pause(git, BACKOFF_SECONDS * 2 ** (attempt - 1))
    hint = "check repository.url, and that this worker (for file://, user id 1000) can read the repository"
    raise CloneFailed(
        failure(
            Reason.CLONE_FAILED,
            f"{variables['URL']} could not be cloned in {TRIES} tries: {words}",
            hint=hint,
        )
    )


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
    return patch if patch.stat().st_size else None


def without_password(url: str) -> str:
    """The URL as it may be shown and stored: user information is left out."""
    parts = urlsplit(url)
    if "@" not in parts.netloc or parts.scheme not in ("http", "https"):
        return url
    return parts._replace(netloc=parts.netloc.rsplit("@", 1)[1]).geturl()


def last_words(result: HelperResult) -> str:
    """Git's own message: its last lines that say something."""
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "remote:"))]
    return "; ".join((telling or lines)[-3:]) or f"git ended with exit code {result.exit_code}"


def _pause(git: GitSandbox, seconds: float) -> None:
    end = min(time.monotonic() + seconds, git.deadline)
    while time.monotonic() < end and not git.interrupted():
        time.sleep(0.1)


def _permanent(repository: Repository, words: str) -> Outcome:
    message = f"{without_password(repository.url)} could not be checked out: {words}"
    hint = "correct repository.url, branch, commit or subpath in the manifest"
    return failure(Reason.CLONE_FAILED, message, hint=hint, fault=Fault.USER)
