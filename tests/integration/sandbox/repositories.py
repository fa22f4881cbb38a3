"""Git repositories for these tests, made on the host by the test itself (never by the product)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "LC_ALL": "C.UTF-8",
    "HOME": "/nonexistent",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


def git(directory: Path, *arguments: str, stdin: bytes = b"") -> str:
    """Run git; return what it printed. Raises `CalledProcessError`."""
    command = ["git", "-c", "safe.directory=*", "-c", "protocol.file.allow=always", "-C", str(directory), *arguments]
    return (
        subprocess.run(command, input=stdin, env=ENVIRONMENT, check=True, capture_output=True).stdout.decode().strip()
    )


def write(directory: Path, files: Mapping[str, str | bytes]) -> None:
    for name, data in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data.encode() if isinstance(data, str) else data)


def commit(directory: Path, files: Mapping[str, str | bytes], message: str = "change") -> str:
    """Write files and commit everything; return the commit's id."""
    write(directory, files)
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "--allow-empty", f"--message={message}")
    return git(directory, "rev-parse", "HEAD")


def make_repository(directory: Path) -> Path:
    """A repository with two commits on `main`, a branch `side/way` of one more, and the tag `v1` on the first."""
    directory.mkdir(parents=True)
    git(directory, "init", "--quiet", "--initial-branch=main")
    commit(directory, {"README.md": "one\n", "src/app.py": "print(1)\n"}, "first")
    git(directory, "tag", "--annotate", "--message=v1", "v1")
    commit(directory, {"README.md": "two\n", ".gitignore": "*.log\n"}, "second")
    git(directory, "checkout", "--quiet", "-b", "side/way")
    commit(directory, {"side.txt": "side\n"}, "side")
    git(directory, "checkout", "--quiet", "main")
    return directory


def head(directory: Path, name: str = "HEAD") -> str:
    return git(directory, "rev-parse", f"{name}^{{commit}}")
