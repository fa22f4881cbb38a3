"""The agent's command line on this host: fetched once, checked each time, outside of every repository."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from workers.images.agent_cli import PROGRAM, AgentCli
from workers.images.cli_sources import Source, SourceFailed, npm_package, pip_wheel, unpack
from workers.images.failure import ImageBuildFailed

SOURCES: tuple[Source, ...] = (pip_wheel, npm_package)
BROUGHT = (".whl", ".tgz")
_WORK = "fetch-"


def cache_directory() -> Path:
    """`$XDG_CACHE_HOME/sandbox/cli`, by default below `~/.cache`."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "")
    return (base if base.is_absolute() else Path("~/.cache").expanduser()) / "sandbox" / "cli"


def provide_cli(cli: AgentCli, echo: Callable[[str], None], *, image: str) -> Path:
    """Return the path of the locked program, fetched if it is not in the cache with the locked bytes.

    One caller at a time, of all processes; the others wait for what it fetches. Raises `ImageBuildFailed`, which
    names `image` and the directory that the program can be put into by hand.
    """
    place = cache_directory() / cli.sha256
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone_in(place):
            program = place / PROGRAM
            if not _has_digest(program, cli.sha256):
                _fetch(cli, place, echo, image)
            return program
    except OSError as error:
        todo = "make room there (1 GB), or point XDG_CACHE_HOME to a directory of this user's with some"
        raise ImageBuildFailed(image, f"claude {cli.version} cannot be kept in {place}: {error}", todo) from error


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _has_digest(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False


def _fetch(cli: AgentCli, place: Path, echo: Callable[[str], None], image: str) -> None:
    """Put the program into `place`, all at once: from what lies there, else from a registry."""
    for left in place.glob(f"{_WORK}*"):  # by a build that was killed
        shutil.rmtree(left)
    failures: list[SourceFailed] = []
    brought = (_brought(path) for path in sorted(place.iterdir()) if path.suffix in BROUGHT)
    for source in (*brought, *SOURCES):
        with tempfile.TemporaryDirectory(prefix=_WORK, dir=place) as work:
            program = Path(work) / PROGRAM
            try:
                unpack(source(cli, Path(work), echo), cli, program)
            except SourceFailed as failure:
                failures.append(failure)
            else:
                program.chmod(0o755)
                program.replace(place / PROGRAM)
                return
    why = f"claude {cli.version} could not be fetched: {', and '.join(map(str, failures))}"
    raise ImageBuildFailed(image, why, _by_hand(cli, place), [line for one in failures for line in one.output])


def _brought(archive: Path) -> Source:
    def source(cli: AgentCli, work: Path, echo: Callable[[str], None]) -> Path:  # noqa: ARG001 – the port's
        echo(f"taking claude {cli.version} from {archive}")
        return archive

    return source


def _by_hand(cli: AgentCli, place: Path) -> str:
    wheel = cli.wheel
    return (
        "configure pip on this host with an index that has the package and run this again; or, on another host, run "
        f"`pip download --no-deps --only-binary :all: --platform {wheel.platform} {wheel.package}=={wheel.version}`, "
        f"put the wheel (or the program itself, named {PROGRAM}) into {place} here and run this again"
    )
