"""From a sandbox spec to the engine's container configuration: each hardening by its own line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from workers.sandbox import launcher
from workers.sandbox.docker.spec import container_config, host_config, seccomp_profile
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
            "/tmp": "rw,nosuid,nodev,exec,mode=1777,size=33554432,nr_inodes=8192",
            "/run": "rw,nosuid,nodev,noexec,mode=755,size=16777216,nr_inodes=4096",
            "/var/tmp": "rw,nosuid,nodev,exec,mode=1777,size=33554432,nr_inodes=8192",
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


def test_a_place_that_an_image_declares_as_a_volume_becomes_a_temporary_one_of_limited_size() -> None:
    made = host_config(replace(SPEC, volumes=("/data", "/tmp")))["Tmpfs"]
    assert made["/data"] == "rw,nosuid,nodev,exec,mode=1777,size=33554432,nr_inodes=8192"
    assert list(made) == ["/data", "/tmp", "/run", "/var/tmp"]
