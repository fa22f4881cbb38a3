"""A made container held against what was asked for, before any of the task's code runs (CIS Docker benchmark §5).

Pure. What the engine, a plugin of it or an image changed or left out is named, and the task is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from workers.sandbox import launcher
from workers.sandbox.docker.network_config import network_faults
from workers.sandbox.docker.spec import host_config
from workers.sandbox.port import SandboxSpec

AS_ASKED = (
    "CapDrop", "SecurityOpt", "Init", "PidsLimit", "NanoCpus", "Memory", "ReadonlyRootfs", "Tmpfs", "ShmSize",
    "IpcMode", "CgroupnsMode", "LogConfig", "Runtime",
)  # fmt: skip
"""5.3, 5.21, 5.25 capabilities, seccomp, no new privileges; 5.10, 5.11, 5.28 limits; 5.12 root; 5.16 ipc."""
UNSET = (
    "Privileged", "CapAdd", "Devices", "DeviceRequests", "DeviceCgroupRules", "Binds", "VolumesFrom", "VolumeDriver",
    "GroupAdd", "PidMode", "UTSMode", "UsernsMode", "OomKillDisable", "OomScoreAdj", "PublishAllPorts", "CgroupParent",
    "Cgroup", "Sysctls", "AutoRemove",
)  # fmt: skip
"""5.4 privileged; 5.5, 5.31 host paths; 5.8, 5.13 ports; 5.15, 5.20, 5.30 namespaces; 5.17 devices; 5.24 cgroup."""
MASKED_PATHS = frozenset({
    "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
    "/proc/timer_list", "/sys/firmware",
})  # fmt: skip
READONLY_PATHS = frozenset({"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"})
SWAP_NOT_ACCOUNTED = -1
"""What the engine makes of `MemorySwap` where the kernel cannot limit swap; `applied` then says so."""


def mismatches(inspected: dict[str, Any], spec: SandboxSpec) -> tuple[str, ...]:
    """Name each setting of a made container that is not as asked for."""
    asked, applied = host_config(spec), inspected["HostConfig"]
    found = [
        f"{name} is {_short(applied.get(name))}, asked for {_short(asked[name])}"
        for name in AS_ASKED
        if name in asked and applied.get(name) != asked[name]
    ]
    found += [f"{name} is {_short(applied[name])}" for name in UNSET if applied.get(name)]
    found += [*_limit_faults(applied, asked), *_path_faults(applied), *_mount_faults(inspected["Mounts"], spec)]
    found += network_faults(inspected, spec.network)
    found += _process_faults(inspected, spec)
    return tuple(found)


def _limit_faults(applied: dict[str, Any], asked: dict[str, Any]) -> Iterator[str]:
    if applied.get("MemorySwap") not in (asked["MemorySwap"], SWAP_NOT_ACCOUNTED):
        yield f"MemorySwap is {applied.get('MemorySwap')}, asked for {asked['MemorySwap']}"
    # The engine's own defaults (of other ulimits) may be added to what was asked for, and a policy's fields filled in.
    limits = {(one["Name"], one["Soft"], one["Hard"]) for one in applied.get("Ulimits") or ()}
    if not limits >= {(one["Name"], one["Soft"], one["Hard"]) for one in asked["Ulimits"]}:
        yield f"Ulimits are {sorted(limits)}"
    if (applied.get("RestartPolicy") or {}).get("Name") not in ("no", "", None):
        yield f"RestartPolicy is {applied['RestartPolicy']}"


def _path_faults(applied: dict[str, Any]) -> Iterator[str]:
    """What of the kernel's own files is hidden, or cannot be written, in any container that is not privileged."""
    for name, needed in (("MaskedPaths", MASKED_PATHS), ("ReadonlyPaths", READONLY_PATHS)):
        if missing := sorted(needed - set(applied.get(name) or ())):
            yield f"{name} lack {', '.join(missing)}"


def _mount_faults(mounts: list[dict[str, Any]], spec: SandboxSpec) -> Iterator[str]:
    found = {(str(one.get("Source")), one["Destination"], not one["RW"], one.get("Propagation")) for one in mounts}
    if found != {(str(one.source), one.target, one.read_only, "rprivate") for one in spec.mounts}:
        yield f"Mounts are {sorted(map(str, found))}"
    elif kinds := sorted({str(one["Type"]) for one in mounts} - {"bind"}):
        yield f"Mounts are of kind {', '.join(kinds)}"


def _process_faults(inspected: dict[str, Any], spec: SandboxSpec) -> Iterator[str]:
    config = inspected["Config"]
    if config["User"] != f"{spec.user_id}:{spec.user_id}":
        yield f"User is {config['User']!r}"
    if config.get("Entrypoint") or config["Cmd"] != launcher.argv():
        yield "the main process is not the launcher"
    if config.get("Tty"):
        yield "Tty is True"
    if (config.get("Healthcheck") or {}).get("Test") != ["NONE"]:  # it would run beside the closed gate
        yield f"Healthcheck is {_short(config.get('Healthcheck'))}"
    if not spec.labels.items() <= (config.get("Labels") or {}).items():
        yield "Labels are not those that were given"
    if inspected.get("AppArmorProfile") == "unconfined":
        yield "AppArmorProfile is 'unconfined'"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
