"""The Docker Engine: its version and how it is configured, with what follows for tasks."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import docker

from orchestrator.settings import Settings
from workers.checkup.mounts import mount_of
from workers.checkup.skew import compared
from workers.finding import Finding, note, ok, problem
from workers.sandbox.docker.facts import facts_of
from workers.sandbox.port import SandboxError

CVE_2024_29018 = (((0,), (23, 0, 11)), ((24,), (25, 0, 4)))
"""From, and up to but without: versions of the engine whose internal networks resolve names outside."""
VSOCK_CLOSED = (26,)
"""The engine's own seccomp profile refuses AF_VSOCK by this version."""
CONFIGURATION = Path("/etc/docker/daemon.json")
MEMORY_INFO = Path("/proc/meminfo")
_UNBOUNDED = ("json-file",)
"""Log drivers that fill the disk unless a size is set."""


def version(engine: docker.APIClient, settings: Settings) -> Iterator[Finding]:
    found = str(engine.version()["Version"])
    numbers = tuple(int(part) for part in re.findall(r"\d+", found)[:3])
    if any(first <= numbers < fixed for first, fixed in CVE_2024_29018):
        reached = "isolated and outbound tasks have no network of the engine's, so none of them reaches it"
        if settings.allow_full_network:
            reached = "tasks in network_mode full are on a network of the engine's, so it is theirs to try"
        yield note("engine", f"version {found}: CVE-2024-29018 (DNS) is open; {reached}", "renew the engine")
    else:
        yield ok("engine", f"version {found}")
    if numbers < VSOCK_CLOSED:
        seen = (
            f"version {found}: its own seccomp profile lets containers open AF_VSOCK, the way from a virtual machine "
            "to its host; ours for sandboxes does not, so other containers on this engine are concerned"
        )
        yield note("engine profile", seen, "run nothing but sandboxes on this engine, or renew it to 26 or later")


def storage(engine: docker.APIClient, _: Settings) -> Iterator[Finding]:
    info = engine.info()
    yield ok("storage driver", f"{info['Driver']}, cgroup v{info.get('CgroupVersion', '1')}")
    root = Path(info.get("DockerRootDir") or "/var/lib/docker")
    if not root.exists():
        return  # it lies on another machine, or outside of this container
    mount = mount_of(root)
    if mount.point == "/":
        seen = f"{root} lies on the root file system: images and sandboxes can fill it, and the host stands still"
        yield note("engine disk", seen, "give it a file system of its own (CIS 1.1.1)")
    else:
        yield ok("engine disk", f"{root} lies on {mount.point}, {mount.kind}")
    if mount.kind == "xfs" and mount.options & {"pquota", "prjquota"}:
        yield ok("project quotas", "xfs with pquota: the engine can limit what a sandbox writes into its root")
    else:
        yield ok("project quotas", f"none ({mount.kind}): a writable root is watched, so profiles keep it read-only")


def restarts(engine: docker.APIClient, _: Settings) -> Iterator[Finding]:
    if engine.info().get("LiveRestoreEnabled"):
        yield ok("live-restore", "on: sandboxes survive a restart of the engine")
        return
    seen = "off: a restart of the engine ends all running tasks with sandbox_error, and they follow lifecycle.retry"
    yield note("live-restore", seen, 'set "live-restore": true in /etc/docker/daemon.json (CIS 2.14)')


def user_ids(engine: docker.APIClient, _: Settings) -> Iterator[Finding]:
    try:
        first = facts_of(engine.info()).first_user_id
    except SandboxError as error:
        yield problem("userns-remap", str(error), "no task runs on this worker until then")
        return
    if first and os.geteuid() != 0:
        seen = f"on, and this user is not root: nobody could hand a workspace over to user {first} and above"
        yield problem("userns-remap", seen, "run the worker as root, or turn userns-remap off")
    elif first:
        yield ok("userns-remap", f"on: root in a container is user {first} on the host")
    else:
        advice = 'consider "userns-remap" in /etc/docker/daemon.json for hostile tenants (docs/images.md)'
        yield note("userns-remap", "off: sandboxes share the host's user ids, without capabilities", advice)


def swap(engine: docker.APIClient, _: Settings) -> Iterator[Finding]:
    if engine.info().get("SwapLimit"):
        yield ok("swap", "is accounted: vm.memory limits memory and swap together")
    elif not _swap_bytes():
        yield ok("swap", "there is none, and the kernel would not account it")
    else:
        seen = (
            "the kernel does not account this host's swap: vm.memory limits memory only, and a task may fill the swap"
        )
        yield note("swap", seen, "boot with swapaccount=1, or turn swap off")


def _swap_bytes() -> int:
    found = re.search(r"^SwapTotal:\s+(\d+)", MEMORY_INFO.read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def logs(engine: docker.APIClient, _: Settings) -> Iterator[Finding]:
    """The engine's default. Sandboxes do not use it: theirs is chosen and bounded by the worker."""
    driver = str(engine.info().get("LoggingDriver") or "unknown")
    if driver in _UNBOUNDED and not _has_log_limit():
        seen = f"the engine's default is {driver} without a size: containers that are not ours can fill the disk"
        yield note(
            "engine logs", seen, 'set "log-opts": {"max-size": "64m", "max-file": "2"} in /etc/docker/daemon.json'
        )
    else:
        yield ok("engine logs", f"the engine's default is {driver}; sandboxes have a bounded log of their own")


def _has_log_limit() -> bool:
    try:
        configured = json.loads(CONFIGURATION.read_text())
    except (OSError, ValueError):
        return False
    options = configured.get("log-opts") if isinstance(configured, dict) else None
    return isinstance(options, dict) and "max-size" in options


def clock(engine: docker.APIClient, _: Settings) -> Iterator[Finding]:
    before = datetime.now(UTC)
    stamp = engine.info().get("SystemTime")
    if stamp:
        yield compared("the engine", datetime.fromisoformat(stamp), before, datetime.now(UTC))
