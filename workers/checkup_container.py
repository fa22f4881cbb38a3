"""What a worker in a container needs of that container, as the engine that runs it tells (docs/compose.md)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import docker
from docker.errors import NotFound

from orchestrator.settings import Settings
from workers.finding import Finding, note, ok

SUBJECT = "container"
NEEDED = ("SYS_ADMIN", "SYS_PTRACE")
"""To enter a sandbox's network namespace, and to mount."""
SHARED = ("shared", "rshared")


def container(engine: docker.APIClient, settings: Settings) -> Iterator[Finding]:
    """The findings of this process's own container; none outside of one."""
    own = _own(engine)
    if own is None:
        return
    yield from _data_directory(own, PurePath(settings.data_dir))
    yield from _privileges(own["HostConfig"])


def _own(engine: docker.APIClient) -> dict[str, Any] | None:
    """This container's configuration. Its host name is the beginning of its id, unless somebody chose another."""
    name = socket.gethostname()
    try:
        found: dict[str, Any] = engine.inspect_container(name)
    except NotFound:
        return None
    return found if len(name) == 12 and found["Id"].startswith(name) else None


def _data_directory(own: dict[str, Any], directory: PurePath) -> Iterator[Finding]:
    above = [one for one in own["Mounts"] if directory.is_relative_to(one["Destination"])]
    mount = max(above, key=lambda one: len(one["Destination"]), default=None)
    if mount is None or mount["Source"] != mount["Destination"]:
        return  # the check of the work directory says so, and what it means
    if mount["Propagation"] not in SHARED:
        seen = f"{mount['Source']} is bound {mount['Propagation']}: the engine does not see what is mounted below it"
        yield note(SUBJECT, f"{seen}; sizes cannot be enforced", "bind it rshared, from a shared mount of the host")
    else:
        yield ok(SUBJECT, f"{mount['Source']} is bound {mount['Propagation']} at the same path")


def _privileges(config: dict[str, Any]) -> Iterator[Finding]:
    added = {str(one).removeprefix("CAP_") for one in config.get("CapAdd") or ()}
    lacking = [] if config["Privileged"] or "ALL" in added else [one for one in NEEDED if one not in added]
    if lacking:
        seen = f"without {', '.join(lacking)}: every way out of a sandbox takes a sidecar"
        yield note(SUBJECT, seen, "run it privileged, as compose.yaml does")
    elif not config["Privileged"]:
        seen = "not privileged: no devices for file systems of a limited size, so sizes cannot be enforced"
        yield note(SUBJECT, seen, "run it privileged, where the engine may do that")
    else:
        yield ok(SUBJECT, "privileged")
