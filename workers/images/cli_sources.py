"""Where the agent's command line comes from: a wheel by pip, a package by npm, or an archive that somebody brought."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from workers.images.agent_cli import AgentCli

TIMEOUT_SECONDS = 1800
CHUNK_BYTES = 1 << 20
_UNREADABLE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, KeyError)


class SourceFailed(Exception):
    """A source did not give the locked program. `output` are the last lines that its tool printed."""

    def __init__(self, why: str, output: tuple[str, ...] = ()) -> None:
        super().__init__(why)
        self.output = output


Source = Callable[[AgentCli, Path, Callable[[str], None]], Path]
"""(what, an empty directory to work in, a line of progress) -> the archive. Raises `SourceFailed`."""


def pip_wheel(cli: AgentCli, work: Path, echo: Callable[[str], None]) -> Path:
    """Download the wheel with the pip of this interpreter, whose configuration names the index."""
    if find_spec("pip") is None:
        raise SourceFailed(f"{sys.executable} has no pip")
    wheel = cli.wheel
    requirement = work / "requirement.txt"
    requirement.write_text(f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    echo(f"fetching claude {cli.version} with pip ({wheel.package} {wheel.version})")
    options = ["--no-deps", "--only-binary=:all:", "--require-hashes", f"--platform={wheel.platform}"]
    # pip's own cache would keep a second copy of what is only taken apart.
    options += ["--no-input", "--no-cache-dir", "--disable-pip-version-check", "--progress-bar=off"]
    argv = [sys.executable, "-m", "pip", "download", *options, f"--dest={work}", f"--requirement={requirement}"]
    _run("pip", argv)
    return _only(work, "*.whl", "pip")


def npm_package(cli: AgentCli, work: Path, echo: Callable[[str], None]) -> Path:
    """Download the package with this host's npm, where there is one. No script of the package runs."""
    npm = shutil.which("npm")
    if npm is None:
        raise SourceFailed("there is no npm")
    echo(f"fetching claude {cli.version} with npm ({cli.npm.package})")
    options = ["--loglevel=error", f"--cache={work / 'npm-cache'}", f"--pack-destination={work}"]
    _run("npm", [npm, "pack", *options, f"{cli.npm.package}@{cli.npm.version}"])
    return _only(work, "*.tgz", "npm")


def unpack(archive: Path, cli: AgentCli, target: Path) -> None:
    """Write the program in `archive` (`.whl`, else `.tgz`) to `target`.

    Raises `SourceFailed` when it holds none, or one with other bytes than the lock's; `target` is then no program.
    """
    digest = hashlib.sha256()
    try:
        with _program(archive, cli) as source, target.open("wb") as copy:
            while chunk := source.read(CHUNK_BYTES):
                digest.update(chunk)
                copy.write(chunk)
    except _UNREADABLE as error:
        raise SourceFailed(f"{archive.name} does not hold the program: {error}") from error
    if digest.hexdigest() != cli.sha256:
        raise SourceFailed(f"{archive.name} holds a program with sha256 {digest.hexdigest()}, not {cli.sha256}")


@contextmanager
def _program(archive: Path, cli: AgentCli) -> Iterator[IO[bytes]]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel, wheel.open(cli.wheel.member) as source:
            yield source
        return
    with tarfile.open(archive) as package:
        found = package.extractfile(cli.npm.member)
        if found is None:
            raise KeyError(f"{cli.npm.member} is no file")
        with found as source:
            yield source


def _run(tool: str, argv: list[str]) -> None:
    """Run a downloader. Raises `SourceFailed` with the end of what it printed."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SourceFailed(f"{tool} took longer than {TIMEOUT_SECONDS} s") from error
    if done.returncode != 0:
        raise SourceFailed(f"{tool} ended with exit code {done.returncode}", tuple(done.stdout.splitlines()[-8:]))


def _only(directory: Path, pattern: str, tool: str) -> Path:
    found = list(directory.glob(pattern))
    if len(found) != 1:
        raise SourceFailed(f"{tool} left {len(found)} files {pattern}, not one")
    return found[0]
