"""A made container against what was asked for: each setting that differs is named, and nothing else."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.test_spec import SPEC
from workers.sandbox.docker.golden_list import MASKED_PATHS, READONLY_PATHS, mismatches
from workers.sandbox.docker.spec import container_config, seccomp_profile
from workers.sandbox.port import SandboxSpec

INBOX = "/opt/sandbox-inbox"


def inspected(spec: SandboxSpec = SPEC) -> dict[str, Any]:
    """What the engine answers about a container that it made as asked (as observed with Engine 20.10)."""
    config = container_config(spec)
    host = deepcopy(config["HostConfig"])
    host.update(
        CapAdd=None, Privileged=False, Devices=None, DeviceRequests=None, Binds=None, PidMode="", UTSMode="",
        UsernsMode="", GroupAdd=None, VolumesFrom=None, OomKillDisable=False, PublishAllPorts=False, OomScoreAdj=0,
        VolumeDriver="", CgroupParent="", Cgroup="", AutoRemove=False,
        MaskedPaths=["/proc/asound", *sorted(MASKED_PATHS)], ReadonlyPaths=sorted(READONLY_PATHS),
    )  # fmt: skip
    host.setdefault("Runtime", "runc")
    host["RestartPolicy"]["MaximumRetryCount"] = 0
    host["Ulimits"].append({"Name": "memlock", "Soft": 65536, "Hard": 65536})  # the engine's own default
    mounts = [
        {
            "Type": "bind",
            "Source": str(one.source),
            "Destination": one.target,
            "RW": not one.read_only,
            "Propagation": "rprivate",
        }
        for one in spec.mounts
    ]
    return {
        "HostConfig": host,
        "Mounts": mounts,
        "Config": {key: config[key] for key in ("User", "Entrypoint", "Cmd", "Tty", "Healthcheck")}
        | {"Labels": {**spec.labels, "of": "the image"}},
        "AppArmorProfile": "",
        "NetworkSettings": {"Networks": {"none": {}}},
    }


@pytest.mark.parametrize(
    "spec", [SPEC, replace(SPEC, runtime="runsc", writable_root=True, log_driver="none", mounts=())]
)
def test_a_container_that_is_as_asked_for_has_no_mismatch(spec: SandboxSpec) -> None:
    assert mismatches(inspected(spec), spec) == ()


@pytest.mark.parametrize(
    ("name", "applied"),
    [
        ("NetworkMode", "bridge"),
        ("CapDrop", None),
        ("CapAdd", ["SYS_ADMIN"]),
        ("SecurityOpt", ["no-new-privileges"]),
        ("SecurityOpt", [f"seccomp={seccomp_profile()}"]),
        ("SecurityOpt", None),
        ("Init", False),
        ("Init", None),
        ("PidsLimit", 0),
        ("PidsLimit", None),
        ("NanoCpus", 0),
        ("Memory", 0),
        ("ReadonlyRootfs", False),
        ("Tmpfs", None),
        ("Tmpfs", {"/tmp": ""}),
        ("ShmSize", 1 << 40),
        ("Ulimits", None),
        ("Ulimits", [{"Name": "nofile", "Soft": 1 << 20, "Hard": 1 << 20}, {"Name": "core", "Soft": 0, "Hard": 0}]),
        ("IpcMode", "shareable"),
        ("CgroupnsMode", "host"),
        ("RestartPolicy", {"Name": "always"}),
        ("LogConfig", {"Type": "json-file", "Config": {}}),
        ("Privileged", True),
        ("Devices", [{"PathOnHost": "/dev/sda"}]),
        ("Binds", ["/var/run/docker.sock:/var/run/docker.sock"]),
        ("PidMode", "host"),
        ("UTSMode", "host"),
        ("UsernsMode", "host"),
        ("GroupAdd", ["0"]),
        ("OomKillDisable", True),
        ("OomScoreAdj", -900),
        ("MemorySwap", 0),
        ("MemorySwap", 1 << 40),
        ("MemorySwap", None),
        ("DeviceRequests", [{"Driver": "nvidia"}]),
        ("DeviceCgroupRules", ["c 1:3 rwm"]),
        ("VolumesFrom", ["other"]),
        ("CgroupParent", "/elsewhere"),
        ("Cgroup", "container:other"),
        ("Sysctls", {"net.ipv4.ip_forward": "1"}),
        ("AutoRemove", True),
        ("PublishAllPorts", True),
        ("MaskedPaths", []),
        ("MaskedPaths", None),
        ("ReadonlyPaths", ["/proc/bus"]),
    ],
)
def test_each_limit_that_was_not_applied_is_named(name: str, applied: Any) -> None:
    made = inspected()
    made["HostConfig"][name] = applied
    [found] = mismatches(made, SPEC)
    assert found.startswith(name)
    assert len(found) < 600


def test_paths_of_the_kernel_that_are_not_hidden_are_named() -> None:
    made = inspected()
    made["HostConfig"]["MaskedPaths"].remove("/proc/kcore")
    assert mismatches(made, SPEC) == ("MaskedPaths lack /proc/kcore",)


def test_another_runtime_than_the_profile_s_is_named() -> None:
    spec = replace(SPEC, runtime="runsc")
    made = inspected(spec)
    made["HostConfig"]["Runtime"] = "runc"
    assert mismatches(made, spec) == ("Runtime is 'runc', asked for 'runsc'",)


@pytest.mark.parametrize(
    "change",
    [
        {"Type": "bind", "Source": "/etc", "Destination": "/host", "RW": False, "Propagation": "rprivate"},
        {
            "Type": "bind",
            "Source": "/work/i",
            "Destination": "/opt/sandbox-inbox",
            "RW": True,
            "Propagation": "rprivate",
        },
        {
            "Type": "bind",
            "Source": "/work/i",
            "Destination": "/opt/sandbox-inbox",
            "RW": False,
            "Propagation": "rshared",
        },
        {
            "Type": "volume",
            "Source": "/var/lib/docker/volumes/x",
            "Destination": "/data",
            "RW": True,
            "Propagation": "",
        },
        {"Type": "tmpfs", "Destination": "/data", "RW": True},
    ],
)
def test_a_mount_that_nobody_asked_for_or_of_another_kind_is_named(change: dict[str, Any]) -> None:
    made = inspected()
    made["Mounts"] = [one for one in made["Mounts"] if one["Destination"] != change["Destination"]] + [change]
    [found] = mismatches(made, SPEC)
    assert found.startswith("Mounts are")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("User", "0:0", "User is '0:0'"),
        ("User", "", "User is ''"),
        ("Entrypoint", ["/entry"], "the main process is not the launcher"),
        ("Cmd", ["sleep", "1"], "the main process is not the launcher"),
        ("Tty", True, "Tty is True"),
        ("Healthcheck", {"Test": ["CMD", "curl"]}, "Healthcheck is {'Test': ['CMD', 'curl']}"),
        ("Healthcheck", None, "Healthcheck is None"),
        ("Labels", None, "Labels are not those that were given"),
    ],
)
def test_another_user_or_main_process_is_named(name: str, value: Any, words: str) -> None:
    made = inspected()
    made["Config"][name] = value
    assert mismatches(made, SPEC) == (words,)


def test_a_container_outside_of_apparmor_is_named_where_the_engine_has_it() -> None:
    assert mismatches(inspected() | {"AppArmorProfile": "unconfined"}, SPEC) == ("AppArmorProfile is 'unconfined'",)
    assert mismatches(inspected() | {"AppArmorProfile": "docker-default"}, SPEC) == ()


def test_swap_that_the_kernel_does_not_account_is_no_mismatch() -> None:
    made = inspected()
    made["HostConfig"]["MemorySwap"] = -1
    assert mismatches(made, SPEC) == ()
