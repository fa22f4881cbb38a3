"""From a sandbox spec to the Docker Engine API's container configuration (pure), and back to a check of it."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from workers.sandbox import launcher
from workers.sandbox.port import LOG_ROTATES_BYTES, SandboxSpec

HOME = "/home/agent"
WORKSPACE = "/workspace"
NANO = 1_000_000_000
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
        "Hostname": "sandbox",
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
        "NetworkMode": "none",
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges", f"seccomp={seccomp_profile()}"],
        "Init": True,  # a TERM to a bare PID 1 is ignored
        "PidsLimit": spec.pids,
        "NanoCpus": round(spec.cpus * NANO),
        "Memory": spec.memory_bytes,
        "MemorySwap": spec.memory_bytes,  # no swap on top
        "ReadonlyRootfs": not spec.writable_root,
        "Tmpfs": {
            "/tmp": f"rw,nosuid,nodev,exec,mode=1777,size={spec.tmp_bytes}",  # noqa: S108 - inside the sandbox
            "/run": f"rw,nosuid,nodev,noexec,mode=755,size={16 * MIB}",
            "/var/tmp": f"rw,nosuid,nodev,exec,mode=1777,size={spec.tmp_bytes}",  # noqa: S108
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


def log_config(driver: str) -> dict[str, Any]:
    """The engine's log is the second net only, and bounded: its default is not (finding 6)."""
    if driver == "none":
        return {"Type": "none", "Config": {}}
    return {"Type": driver, "Config": {"max-size": f"{LOG_ROTATES_BYTES // MEGABYTE}m", "max-file": "2"}}


_AS_ASKED = (
    "NetworkMode", "CapDrop", "SecurityOpt", "Init", "PidsLimit", "NanoCpus", "Memory", "ReadonlyRootfs", "Tmpfs",
    "ShmSize", "IpcMode", "CgroupnsMode", "LogConfig", "Runtime",
)  # fmt: skip
_MUST_BE_UNSET = (
    "Privileged", "CapAdd", "Devices", "DeviceRequests", "DeviceCgroupRules", "Binds", "VolumesFrom", "GroupAdd",
    "PidMode", "UTSMode", "UsernsMode", "OomKillDisable", "PublishAllPorts",
)  # fmt: skip


def mismatches(inspected: dict[str, Any], spec: SandboxSpec) -> tuple[str, ...]:
    """Name each limit of a made container that is not as asked for. `MemorySwap` needs the kernel's support."""
    asked, applied, config = host_config(spec), inspected["HostConfig"], inspected["Config"]
    found = [
        f"{name} is {_short(applied.get(name))}, asked for {_short(asked[name])}"
        for name in _AS_ASKED
        if name in asked and applied.get(name) != asked[name]
    ]
    found += [f"{name} is {_short(applied[name])}" for name in _MUST_BE_UNSET if applied.get(name)]
    # The engine's own defaults (of other ulimits) may be added to what was asked for, and a policy's fields filled in.
    limits = {(one["Name"], one["Soft"], one["Hard"]) for one in applied.get("Ulimits") or ()}
    if not limits >= {(one["Name"], one["Soft"], one["Hard"]) for one in asked["Ulimits"]}:
        found.append(f"Ulimits are {sorted(limits)}")
    if (applied.get("RestartPolicy") or {}).get("Name") not in ("no", "", None):
        found.append(f"RestartPolicy is {applied['RestartPolicy']}")
    mounts = {
        (one["Source"], one["Destination"], not one["RW"]) for one in inspected["Mounts"] if one["Type"] == "bind"
    }
    if mounts != {(str(one.source), one.target, one.read_only) for one in spec.mounts}:
        found.append(f"Mounts are {sorted(mounts)}")
    if config["User"] != f"{spec.user_id}:{spec.user_id}":
        found.append(f"User is {config['User']!r}")
    if config.get("Entrypoint") or config["Cmd"] != launcher.argv():
        found.append("the main process is not the launcher")
    return tuple(found)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
