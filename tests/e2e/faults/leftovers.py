"""What an installation left on the host: in its engines, among its processes, in its directories."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.e2e.stack import loop_devices_below, mounts_below, processes_with

LISTS = {
    "container": ("ps", "--all"),
    "network": ("network", "ls"),
    "volume": ("volume", "ls"),
}


def left_in_engine(engine: Mapping[str, str], installation: str, kept: Iterable[str] = ()) -> Iterator[str]:
    """Containers, networks, volumes with the installation's label; `kept` are ids of preserved sandboxes."""
    wanted = set(kept)
    for what, command in LISTS.items():
        argv = ["docker", *command, "--quiet", "--filter", f"label=sandbox.installation={installation}"]
        argv += ["--no-trunc"] if what != "volume" else []
        done = subprocess.run(argv, env={**os.environ, **engine}, capture_output=True, check=True, text=True)
        for found in done.stdout.split():
            if found not in wanted:
                yield f"{what} {found} is left in the engine"


def remove_containers(engine: Mapping[str, str], installation: str) -> None:
    """Remove this installation's containers, if there are any and the engine answers."""
    environment = {**os.environ, **engine}
    listing = ["docker", "ps", "--all", "--quiet", "--filter", f"label=sandbox.installation={installation}"]
    found = subprocess.run(listing, env=environment, capture_output=True, check=False, text=True).stdout.split()
    if found:
        argv = ["docker", "rm", "--force", "--volumes", *found]
        subprocess.run(argv, env=environment, stdout=subprocess.DEVNULL, check=False)


def left_on_host(directory: Path, kept: Iterable[str] = ()) -> Iterator[str]:
    """Mounts and loop devices below the directory; `kept` are the names of preserved attempts' directories."""
    wanted = tuple(f"/{name}/" for name in kept)
    left = [(mount, "is still mounted") for mount in mounts_below(directory)]
    left += [(line, "is a loop device that is left") for line in loop_devices_below(directory)]
    yield from (f"{found} {what}" for found, what in left if not any(name in found for name in wanted))


def unmount(directory: Path) -> None:
    """Unmount what a test that failed left below the directory."""
    for mount in reversed(mounts_below(directory)):
        subprocess.run(["umount", "--lazy", mount], stderr=subprocess.DEVNULL, check=False)


def left_in_work(work_dir: Path, kept: Iterable[str] = ()) -> Iterator[str]:
    """Directories of attempts; `kept` are the names of preserved ones."""
    names = {entry.name for entry in work_dir.iterdir()} if work_dir.exists() else set()
    yield from (f"the work directory {work_dir}/{name} is left" for name in sorted(names - set(kept)))


def left_in_artifacts(directory: Path) -> Iterator[str]:
    """Files that were begun and never finished."""
    yield from (f"the incomplete artifact {file} is left" for file in sorted(directory.rglob(".incoming-*")))


def keepers_of(data_dir: Path) -> list[int]:
    """The process ids of the keepers that serve a worker's data directory."""
    return [pid for pid, line in processes_with(f"--directory={data_dir}/run/keeper-").items() if "keeper" in line]
