"""From a sandbox spec to the Docker Engine API's container configuration (pure); `golden_list.py` is the way back."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from workers.sandbox import launcher
from workers.sandbox.docker.network_config import hostname, network_config
from workers.sandbox.port import LOG_ROTATES_BYTES, SandboxSpec

HOME = "/home/agent"
WORKSPACE = "/workspace"
NANO = 1_000_000_000
PAGE_BYTES = 4096
"""What a file in memory takes at least: a file system there needs no more inodes than it has pages."""
MIB = 1 << 20
MEGABYTE = 1_000_000
"""What the engine means by `m` in the size of a log."""


@cache
def seccomp_profile() -> str:
    """Our own profile, compact (isolation-and-faults.md §3)."""
    raw = (resources.files("workers.sandbox.docker") / "seccomp.json").read_text()
    return json.dumps(json.loads(raw), separators=(",", ":"))


def container_config(spec: SandboxSpec) -> dict[str, Any]:
    """Return the body of `POST /containers/create`. Each value's reason: isolation-and-faults.md §3."""
    return {
        "Image": spec.image,
        "Entrypoint": [],
        "Cmd": launcher.argv(),
        "User": f"{spec.user_id}:{spec.user_id}",
        "WorkingDir": "/",
        "Env": [f"{name}={value}" for name, value in {"HOME": HOME, **spec.environment}.items()],
        "Labels": dict(spec.labels),
        **hostname(spec.network),
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "Healthcheck": {"Test": ["NONE"]},  # an image's own would run beside the closed gate
        "HostConfig": host_config(spec),
    }


def host_config(spec: SandboxSpec) -> dict[str, Any]:
    config: dict[str, Any] = {
        **network_config(spec.network),
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges", f"seccomp={seccomp_profile()}"],
        "Init": True,  # a TERM to a bare PID 1 is ignored
        "PidsLimit": spec.pids,
        "NanoCpus": round(spec.cpus * NANO),
        "Memory": spec.memory_bytes,
        "MemorySwap": spec.memory_bytes,  # no swap on top
        "ReadonlyRootfs": not spec.writable_root,
        "Tmpfs": {
            **dict.fromkeys(spec.volumes, tmpfs("exec,mode=1777", spec.tmp_bytes)),
            "/tmp": tmpfs("exec,mode=1777", spec.tmp_bytes),  # noqa: S108 - inside the sandbox
            "/run": tmpfs("noexec,mode=755", 16 * MIB),
            "/var/tmp": tmpfs("exec,mode=1777", spec.tmp_bytes),  # noqa: S108
        },
        "ShmSize": 64 * MIB,
        "Ulimits": [{"Name": "nofile", "Soft": 4096, "Hard": 8192}, {"Name": "core", "Soft": 0, "Hard": 0}],
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "RestartPolicy": {"Name": "no"},  # we own retries
        "LogConfig": log_config(spec.log_driver),
        "Mounts": [
            {
                "Type": "bind",
                "Source": str(mount.source),
                "Target": mount.target,
                "ReadOnly": mount.read_only,
                "BindOptions": {"Propagation": "rprivate"},
            }
            for mount in spec.mounts
        ],
    }
    if spec.runtime:
        config["Runtime"] = spec.runtime
    return config


def tmpfs(options: str, size_bytes: int) -> str:
    """The options of a file system in memory. What it holds counts as the sandbox's memory, and so does each file."""
    return f"rw,nosuid,nodev,{options},size={size_bytes},nr_inodes={max(size_bytes // PAGE_BYTES, 16)}"


def log_config(driver: str) -> dict[str, Any]:
    """The engine's log is the second net only, and bounded: its default is not (finding 6)."""
    if driver == "none":
        return {"Type": "none", "Config": {}}
    return {"Type": driver, "Config": {"max-size": f"{LOG_ROTATES_BYTES // MEGABYTE}m", "max-file": "2"}}
