"""From a sandbox spec to the engine's container configuration, and back: each hardening by its own line."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from workers.sandbox import launcher
from workers.sandbox.docker.spec import container_config, host_config, mismatches, seccomp_profile
from workers.sandbox.port import Mount, SandboxSpec

SPEC = SandboxSpec(
    name="sandbox-1",
    image="sandbox/basic:latest",
    labels={"sandbox.task": "t"},
    mounts=(Mount(Path("/work/w"), "/workspace"), Mount(Path("/work/i"), "/opt/sandbox-inbox", read_only=True)),
    cpus=1.5,
    memory_bytes=256 << 20,
    pids=64,
    tmp_bytes=32 << 20,
    user_id=1000,
)


def inspected(spec: SandboxSpec = SPEC) -> dict[str, Any]:
    """What the engine answers about a container that it made as asked (as observed with Engine 20.10)."""
    config = container_config(spec)
    host = deepcopy(config["HostConfig"])
    host.update(
        CapAdd=None, Privileged=False, Devices=None, DeviceRequests=None, Binds=None, PidMode="", UTSMode="",
        UsernsMode="", GroupAdd=None, VolumesFrom=None, OomKillDisable=False, PublishAllPorts=False,
    )  # fmt: skip
    host.setdefault("Runtime", "runc")
    host["RestartPolicy"]["MaximumRetryCount"] = 0
    host["Ulimits"].append({"Name": "memlock", "Soft": 65536, "Hard": 65536})  # the engine's own default
    mounts = [
        {"Type": "bind", "Source": str(one.source), "Destination": one.target, "RW": not one.read_only}
        for one in spec.mounts
    ]
    mounts.append({"Type": "volume", "Source": "/var/lib/docker/volumes/x", "Destination": "/data", "RW": True})
    return {"HostConfig": host, "Mounts": mounts, "Config": {key: config[key] for key in ("User", "Entrypoint", "Cmd")}}


def test_the_host_configuration_is_the_hardened_profile() -> None:
    config = host_config(SPEC)
    [no_new, seccomp] = config.pop("SecurityOpt")
    assert no_new == "no-new-privileges"
    assert json.loads(seccomp.removeprefix("seccomp="))["defaultAction"] == "SCMP_ACT_ERRNO"
    assert config == {
        "NetworkMode": "none",
        "CapDrop": ["ALL"],
        "Init": True,
        "PidsLimit": 64,
        "NanoCpus": 1_500_000_000,
        "Memory": 268_435_456,
        "MemorySwap": 268_435_456,
        "ReadonlyRootfs": True,
        "Tmpfs": {
            "/tmp": "rw,nosuid,nodev,exec,mode=1777,size=33554432",
            "/run": "rw,nosuid,nodev,noexec,mode=755,size=16777216",
            "/var/tmp": "rw,nosuid,nodev,exec,mode=1777,size=33554432",
        },
        "ShmSize": 67_108_864,
        "Ulimits": [{"Name": "nofile", "Soft": 4096, "Hard": 8192}, {"Name": "core", "Soft": 0, "Hard": 0}],
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "64m", "max-file": "2"}},
        "Mounts": [
            {
                "Type": "bind",
                "Source": "/work/w",
                "Target": "/workspace",
                "ReadOnly": False,
                "BindOptions": {"Propagation": "rprivate"},
            },
            {
                "Type": "bind",
                "Source": "/work/i",
                "Target": "/opt/sandbox-inbox",
                "ReadOnly": True,
                "BindOptions": {"Propagation": "rprivate"},
            },
        ],
    }


def test_the_container_runs_the_launcher_as_a_user_that_the_image_does_not_choose() -> None:
    config = container_config(SPEC)
    del config["HostConfig"]
    assert config == {
        "Image": "sandbox/basic:latest",
        "Entrypoint": [],
        "Cmd": launcher.argv(),
        "User": "1000:1000",
        "WorkingDir": "/",
        "Env": ["HOME=/home/agent"],
        "Labels": {"sandbox.task": "t"},
        "Hostname": "sandbox",
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "Healthcheck": {"Test": ["NONE"]},
    }


def test_a_profile_may_ask_for_a_writable_root_another_runtime_and_no_engine_log() -> None:
    config = host_config(replace(SPEC, writable_root=True, runtime="runsc", log_driver="none"))
    assert config["ReadonlyRootfs"] is False
    assert config["Runtime"] == "runsc"
    assert config["LogConfig"] == {"Type": "none", "Config": {}}


def test_part_of_a_cpu_keeps_its_exact_share() -> None:
    assert [host_config(replace(SPEC, cpus=cpus))["NanoCpus"] for cpus in (0.1, 0.29, 256)] == [
        100_000_000,
        290_000_000,
        256_000_000_000,
    ]


def test_the_seccomp_profile_is_handed_in_as_one_line() -> None:
    assert "\n" not in seccomp_profile()


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
    ],
)
def test_each_limit_that_was_not_applied_is_named(name: str, applied: Any) -> None:
    made = inspected()
    made["HostConfig"][name] = applied
    [found] = mismatches(made, SPEC)
    assert found.startswith(name)
    assert len(found) < 600


def test_another_runtime_than_the_profile_s_is_named() -> None:
    spec = replace(SPEC, runtime="runsc")
    made = inspected(spec)
    made["HostConfig"]["Runtime"] = "runc"
    assert mismatches(made, spec) == ("Runtime is 'runc', asked for 'runsc'",)


@pytest.mark.parametrize(
    "change",
    [
        {"Type": "bind", "Source": "/etc", "Destination": "/host", "RW": False},
        {"Type": "bind", "Source": "/work/i", "Destination": "/opt/sandbox-inbox", "RW": True},
    ],
)
def test_a_mount_more_or_a_writable_one_is_named(change: dict[str, Any]) -> None:
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
    ],
)
def test_another_user_or_main_process_is_named(name: str, value: Any, words: str) -> None:
    made = inspected()
    made["Config"][name] = value
    assert mismatches(made, SPEC) == (words,)


def test_swap_that_the_kernel_does_not_account_is_no_mismatch() -> None:
    made = inspected()
    made["HostConfig"]["MemorySwap"] = -1
    assert mismatches(made, SPEC) == ()
