"""The base of the sandbox images: pulled where a registry answers, else made from Debian's packages."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path

import docker
import requests

from workers.images.failure import ImageBuildFailed

SUITE = "bookworm"
PULLED = "debian:bookworm-slim"
MADE = "sandbox/base:bookworm"

KEYRING = Path("usr/share/keyrings/debian-archive-keyring.gpg")
ELSEWHERE = (
    f"run `sandbox image build` on a Debian host, or bring {PULLED} to this engine "
    f"(`docker pull` with a registry, `docker save`/`docker load` without)"
)
# What a sandbox never reads. The rules stay in the image, so packages installed on top of it are as lean.
LEAN = (
    *(f"path-exclude=/usr/share/{name}/*" for name in ("doc", "info", "locale", "man")),
    "path-include=/usr/share/doc/*/copyright",
    "path-include=/usr/share/locale/locale.alias",
)
CHANGES = ["ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 'CMD ["bash"]']


def provide_base(engine: docker.DockerClient, echo: Callable[[str], None], *, renew: bool = False) -> str:
    """Return the tag of a base that is in the engine: one that is there, else pulled, else made.

    `renew` pulls or makes it again. Raises `ImageBuildFailed` when there is no way to get one.
    """
    present = [tag for tag in (PULLED, MADE) if engine.images.list(name=tag)]
    if present and not renew:
        return present[0]
    echo(f"pulling {PULLED}")
    try:
        engine.images.pull(PULLED)
    except (docker.errors.APIError, requests.RequestException) as error:
        echo(f"no image registry is reachable ({error.__class__.__name__})")
    else:
        return PULLED
    if PULLED in present:
        echo(f"keeping the {PULLED} that is here")
        return PULLED
    _make(engine, echo)
    return MADE


def _make(engine: docker.DockerClient, echo: Callable[[str], None]) -> None:
    """Make `MADE` from the distribution's packages. Raises `ImageBuildFailed`. Takes some 15 s."""
    _check_host(Path("/"))
    echo(f"making {MADE} from the packages of Debian {SUITE} with mmdebstrap")
    with tempfile.TemporaryDirectory(prefix="sandbox-base-") as directory:
        tarball = Path(directory) / "base.tar"
        _mmdebstrap(tarball, _sources(Path("/etc/apt"), Path(directory)), echo)
        echo(f"importing {tarball.stat().st_size >> 20} MiB as {MADE}")
        repository, _, tag = MADE.partition(":")
        try:
            engine.api.import_image_from_file(str(tarball), repository=repository, tag=tag, changes=CHANGES)
        except (docker.errors.APIError, requests.RequestException) as error:
            raise ImageBuildFailed(MADE, f"the engine refused the import: {error}", "see `sandbox doctor`") from error


def _check_host(root: Path) -> None:
    """Raise `ImageBuildFailed` unless this host can make a Debian base."""
    release = platform.freedesktop_os_release()
    if "debian" not in f"{release['ID']} {release.get('ID_LIKE', '')}".split():
        raise ImageBuildFailed(
            MADE, f"no image registry is reachable and this host is {release['ID']}, no Debian", ELSEWHERE
        )
    if shutil.which("mmdebstrap") is None:
        raise ImageBuildFailed(
            MADE,
            "no image registry is reachable and mmdebstrap is missing",
            "run `apt-get install mmdebstrap` as root",
        )
    if not (root / KEYRING).exists():
        raise ImageBuildFailed(
            MADE,
            f"the keys of Debian (/{KEYRING}) are missing",
            "run `apt-get install debian-archive-keyring` as root",
        )


def _mmdebstrap(tarball: Path, sources: list[Path], echo: Callable[[str], None]) -> None:
    command = ["mmdebstrap", "--variant=minbase", "--include=ca-certificates"]
    command += [f"--dpkgopt={rule}" for rule in LEAN]
    command += [f"--aptopt={option}" for option in _apt_options()]
    command += [SUITE, str(tarball), *map(str, sources)]
    tail: deque[str] = deque(maxlen=20)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None  # noqa: S101 – says to mypy what PIPE means
        for line in process.stdout:
            tail.append(line.rstrip())
            echo(tail[-1])
    if process.returncode != 0:
        todo = (
            "check that `apt-get update` works on this host and that TMPDIR has 500 MB; "
            "for a user other than root the kernel must allow user namespaces"
        )
        raise ImageBuildFailed(MADE, f"mmdebstrap ended with exit code {process.returncode}", todo, tail)


def _apt_options() -> list[str]:
    """Return apt's options for the image: no translations, and the host's on the age of package lists.

    A frozen mirror needs the latter wherever it is used.
    """
    names = ("Acquire::Check-Valid-Until", "Acquire::Check-Date")
    dump = subprocess.run(
        ["apt-config", "dump", "--format", '%f "%v";%n', *names], capture_output=True, text=True, check=False
    )
    return ['Acquire::Languages "none";', *dump.stdout.splitlines()]


def _sources(apt: Path, directory: Path) -> list[Path]:
    """Return copies, in `directory`, of the host's own Debian sources of `SUITE`, so that its mirror is used.

    None means mmdebstrap's default. Sources that carry a password are passed over: every task could read it.
    """
    for path, pattern in (
        (apt / "sources.list.d" / "debian.sources", r".*"),
        (apt / "sources.list", rf"deb .*://\S+ {SUITE}\S* .*"),
    ):
        text = path.read_text(errors="replace") if path.exists() else ""
        text = "".join(f"{line}\n" for line in text.splitlines() if re.fullmatch(pattern, line))
        if SUITE in text and not re.search(r"://[^/\s]*@", text):
            copy = directory / path.name
            copy.write_text(text)
            return [copy]
    return []
