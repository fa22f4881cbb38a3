"""Small git repositories for end-to-end tests: always the same files and the same commit ids."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

_ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "LC_ALL": "C",
    # The developer's own configuration (signing, hooks, line ends) must not reach the test's repository.
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Test Author",
    "GIT_AUTHOR_EMAIL": "author@example.org",
    "GIT_AUTHOR_DATE": "2026-01-29T10:00:00+00:00",
    "GIT_COMMITTER_NAME": "Test Author",
    "GIT_COMMITTER_EMAIL": "author@example.org",
    "GIT_COMMITTER_DATE": "2026-01-29T10:00:00+00:00",
}
_FIRST = {
    "README.md": "# Greeter\n\nSays hello.\n",
    "src/app.py": 'def greet(name: str) -> str:\n    return f"Hello, {name}"   \n',
}
_SECOND = {"docs/notes.md": "# Notes\n\nNothing to note yet.\n"}


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository on this machine. `commits` are its ids on `main`, the oldest first."""

    path: Path
    commits: tuple[str, ...]

    @property
    def url(self) -> str:
        return self.path.as_uri()

    @property
    def head(self) -> str:
        return self.commits[-1]


def make_repository(directory: Path) -> Repository:
    """Make a repository with two commits in `directory`, which must not exist yet.

    `src/app.py` has one line that ends with blanks; nothing else is untidy. Raises `CalledProcessError`.
    """
    directory.mkdir(parents=True)
    _git(directory, "init", "--quiet", "--initial-branch=main")
    commits = [_commit(directory, _FIRST, "Add the greeter"), _commit(directory, _SECOND, "Add notes")]
    return Repository(directory, tuple(commits))


def apply_patch(repository: Repository, patch: bytes, directory: Path) -> Path:
    """Clone `repository` into `directory`, apply `patch` there as a user would, return the clone.

    Raises `CalledProcessError` when the patch does not apply to the repository's tip.
    """
    _git(repository.path, "clone", "--quiet", "--", str(repository.path), str(directory))
    _git(directory, "apply", "--whitespace=nowarn", "-", stdin=patch)
    return directory


def _commit(directory: Path, files: dict[str, str], message: str) -> str:
    for name, text in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text)
    _git(directory, "add", "--all")
    _git(directory, "commit", "--quiet", f"--message={message}")
    return _git(directory, "rev-parse", "HEAD")


def _git(directory: Path, *arguments: str, stdin: bytes = b"") -> str:
    command = ["git", "-C", str(directory), *arguments]
    done = subprocess.run(command, input=stdin, env=_ENVIRONMENT, check=True, stdout=subprocess.PIPE)
    return done.stdout.decode().strip()
