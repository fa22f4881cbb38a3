"""What `GET /info` tells of an engine, in the port's words (pure)."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any

from workers.sandbox.port import EngineFacts, Runtime, SandboxError

_OWN_NETWORK = re.compile(r"runsc|kata")
"""Runtimes with a network stack, or a machine, of their own: what the host puts into the namespace is not in it."""
_WITHOUT_LIMITS = re.compile(r"--?ignore-cgroups(=(true|1|t))?$", re.IGNORECASE)
_HOST_SOCKETS = re.compile(r"--?network=host$")
_REMAPPED_ROOT = re.compile(r"(\d+)\.(\d+)$")


def facts_of(info: dict[str, Any]) -> EngineFacts:
    """Translate. Raise `SandboxError` for an engine that maps user ids and does not tell how."""
    user, group = _first_ids(info)
    return EngineFacts(
        runtimes={str(name): _runtime(told or {}) for name, told in (info.get("Runtimes") or {}).items()},
        default_runtime=str(info.get("DefaultRuntime") or "runc"),
        first_user_id=user,
        first_group_id=group,
        swap_limited=bool(info.get("SwapLimit")),
    )


def _runtime(told: dict[str, Any]) -> Runtime:
    program = PurePath(str(told.get("path") or told.get("runtimeType") or "")).name
    arguments = [str(one) for one in told.get("runtimeArgs") or ()]
    return Runtime(
        limits=not any(_WITHOUT_LIMITS.match(one) for one in arguments),
        loopback=not _OWN_NETWORK.search(program) or any(_HOST_SOCKETS.match(one) for one in arguments),
    )


def _first_ids(info: dict[str, Any]) -> tuple[int, int]:
    """Who root in a container is on the host. An engine that maps ids names its data directory after that."""
    if not any("name=userns" in str(one).split(",") for one in info.get("SecurityOptions") or ()):
        return 0, 0
    root = str(info.get("DockerRootDir") or "")
    found = _REMAPPED_ROOT.search(PurePath(root).name)
    if found is None:
        raise SandboxError(
            f"the engine maps user ids (userns-remap), and its data directory {root!r} does not tell to which: no "
            "workspace could be handed over; name the range in /etc/subuid and restart the engine, or turn it off"
        )
    return int(found[1]), int(found[2])
