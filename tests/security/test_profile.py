"""S1 to S12: what a task may do to its sandbox stays in it, and the host goes on."""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.stack import Product, eventually, processes_with, running_product
from tests.e2e.submitting import Json, ended, raw_output, run_manifest, submit
from tests.security.bystander import small_worker, unharmed
from tests.security.syscalls import PROBE, ROWS, Row

pytestmark = pytest.mark.docker

MIB = 1 << 20
LOG_MAX_BYTES = 4 * MIB
WORKER_ROOM_BYTES = 64 * MIB
PIDS = 200


@pytest.fixture(scope="module")
def product(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    directory = tmp_path_factory.mktemp("profile")
    (directory / "profiles.yaml").write_text(json.dumps({"basic": {"pids": PIDS}}))
    settings = {
        "SANDBOX_LOG_MAX_BYTES": str(LOG_MAX_BYTES),
        "SANDBOX_PROFILES": str(directory / "profiles.yaml"),
    }
    with running_product(directory / "data", **settings) as running:
        yield running


@pytest.fixture
def api(product: Product) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{product.url}/api/v1", timeout=120) as client:
        yield client


def started(api: httpx.Client, manifest: Json) -> str:
    """The id of a task that has printed `up`."""
    task = submit(api, manifest)
    eventually("it is up", lambda: b"up\n" in raw_output(api, task))
    return task


def cancelled(api: httpx.Client, task: str) -> None:
    answer = api.delete(f"/tasks/{task}", params={"wait": 60})
    assert answer.json()["new_state"] == "cancelled", answer.text


def container_of(api: httpx.Client, task: str) -> str:
    return str(api.get(f"/tasks/{task}").json()["attempts"][0]["container_id"])


def processes_in(container: str) -> int:
    """How many processes the kernel counts in the sandbox; 0 when its control group is gone."""
    groups = (f"pids/docker/{container}", f"docker/{container}", f"system.slice/docker-{container}.scope")
    for group in groups:
        file = Path("/sys/fs/cgroup") / group / "pids.current"
        if file.exists():
            return int(file.read_text())
    return 0


def records(api: httpx.Client, task: str, stream: str) -> list[Json]:
    answer = api.get(f"/tasks/{task}/logs", params={"format": "ndjson"})
    return [one for one in map(json.loads, answer.text.split("\n")[:-1]) if one["stream"] == stream]


def test_s1_a_fork_bomb_stops_at_the_limit_and_nothing_of_it_is_left(product: Product, api: httpx.Client) -> None:
    bomb = "echo up; bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 600"
    task = started(api, run_manifest(command=["bash", "-c", bomb]))
    container = container_of(api, task)
    eventually("the bomb is at the limit", lambda: processes_in(container) > PIDS * 0.9)
    with unharmed(product, api):
        assert processes_in(container) <= PIDS
    cancelled(api, task)
    assert processes_in(container) == 0


def test_s2_a_memory_bomb_that_is_the_command_is_killed_and_the_reason_says_so(
    product: Product, api: httpx.Client
) -> None:
    with unharmed(product, api):
        task = ended(api, submit(api, run_manifest(command=["python3", "-c", "b'x' * (1 << 30)"])))
    assert (task["state"], task["exit_code"]) == ("failed", 137)
    assert (task["outcome"]["reason"], task["outcome"]["fault"]) == ("oom_killed", "user")


@pytest.mark.parametrize(("code", "reason"), [(0, "exit_zero"), (9, "oom_killed")])
def test_s2_a_memory_bomb_in_a_child_is_told_and_decides_only_over_a_command_that_fails(
    api: httpx.Client, code: int, reason: str
) -> None:
    script = f"python3 -c \"b'x' * (1 << 30)\" || echo survived; exit {code}"
    task = ended(api, submit(api, run_manifest(script=script)))
    assert (task["outcome"]["reason"], task["exit_code"]) == (reason, code)
    assert raw_output(api, task["id"]) == b"survived\n"
    if code == 0:
        assert any("the kernel killed a process" in one["data"] for one in records(api, task["id"], "system"))


def flooded(product: Product, api: httpx.Client, command: str, size_bytes: int) -> None:
    """Run what prints `size_bytes`: the log holds its limit, the gap the rest, and the worker stays small."""
    with small_worker(product, WORKER_ROOM_BYTES), unharmed(product, api):
        task = ended(api, submit(api, run_manifest(script=command)), 600)
    assert task["state"] == "completed", task["outcome"]
    assert len(raw_output(api, task["id"])) == LOG_MAX_BYTES
    [gap] = records(api, task["id"], "gap")
    assert gap["dropped_bytes"] == size_bytes - LOG_MAX_BYTES


def test_s3_a_log_bomb_is_cut_at_the_limit_and_what_is_missing_is_counted(product: Product, api: httpx.Client) -> None:
    flooded(product, api, f"{{ yes $(printf %063d 0) || true; }} | head -c {16 * MIB}", 16 * MIB)


@pytest.mark.security_long
def test_s3_a_log_bomb_of_a_minute_is_no_different(product: Product, api: httpx.Client) -> None:
    with small_worker(product, WORKER_ROOM_BYTES), unharmed(product, api):
        task = ended(api, submit(api, run_manifest(command=["timeout", "60", "yes"])), 600)
    assert task["exit_code"] == 124
    assert len(raw_output(api, task["id"])) == LOG_MAX_BYTES
    [gap] = records(api, task["id"], "gap")
    assert gap["dropped_bytes"] > LOG_MAX_BYTES


def test_s4_one_endless_line_costs_no_memory(product: Product, api: httpx.Client) -> None:
    flooded(product, api, f"head -c {64 * MIB} /dev/zero | tr '\\0' x", 64 * MIB)


@pytest.mark.security_long
def test_s4_one_line_of_a_gigabyte_costs_no_memory(product: Product, api: httpx.Client) -> None:
    flooded(product, api, f"head -c {1 << 30} /dev/zero | tr '\\0' x", 1 << 30)


SEED = 8122
ODD = b"\x00\x1b[31mred\x1b[0m\x1b]0;title\x07\r\x08 \xff\xfe\xc3(\xed\xa0\x80 \xf0\x9f\x92\xa3\n" * 100
PRINT_ODD = f"""
import random, sys
out = sys.stdout.buffer
out.write(random.Random({SEED}).randbytes({MIB}))
out.write({ODD!r})
out.write(b"\\n" * int(sys.argv[1]))
"""


@pytest.mark.parametrize("lines", [100_000, pytest.param(1_000_000, marks=pytest.mark.security_long)])
def test_s5_bytes_of_every_kind_and_empty_lines_are_kept_as_they_are(
    product: Product, api: httpx.Client, lines: int
) -> None:
    with unharmed(product, api):
        task = ended(api, submit(api, run_manifest(command=["python3", "-c", PRINT_ODD, str(lines)])))
    assert task["state"] == "completed"
    assert raw_output(api, task["id"]) == random.Random(SEED).randbytes(MIB) + ODD + b"\n" * lines  # noqa: S311
    answer = api.get(f"/tasks/{task['id']}/logs", params={"format": "ndjson"})
    assert all(json.loads(line) for line in answer.content.split(b"\n") if line)


def test_s6_a_command_that_ignores_term_is_gone_when_it_reads_cancelled(api: httpx.Client) -> None:
    mark = f"6{uuid.uuid4().int % 10**9:09}"
    script = f"trap '' TERM; (trap '' TERM; sleep {mark}) & echo up; while :; do sleep 0.2; done"
    task = started(api, run_manifest(script=script, lifecycle={"stop_grace": "1s"}))
    assert processes_with(f"sleep {mark}")
    cancelled(api, task)
    assert processes_with(f"sleep {mark}") == {}
    assert api.get(f"/tasks/{task}").json()["exit_code"] == 137


def test_s7_daemons_end_with_the_command_that_left_them(api: httpx.Client) -> None:
    mark = f"7{uuid.uuid4().int % 10**9:09}"
    fork = "import os, sys; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0)"
    script = f"""
        setsid sleep {mark} > /dev/null 2>&1 < /dev/null &
        python3 -c "{fork}; os.execlp('sleep', 'sleep', '{mark}')" > /dev/null 2>&1 < /dev/null
        nohup sh -c 'trap "" TERM HUP; sleep {mark}' > /dev/null 2>&1 < /dev/null &
        until [ $(cat /proc/[0-9]*/comm | grep -c sleep) -ge 3 ]; do sleep 0.1; done
        echo up
    """
    task = ended(api, submit(api, run_manifest(script=script)))
    assert (task["state"], raw_output(api, task["id"])) == ("completed", b"up\n")
    eventually("the daemons are gone", lambda: not processes_with(f"sleep {mark}"))


@pytest.fixture(scope="module")
def answers(product: Product) -> dict[str, str]:
    """What each system call of the table answered, in one task."""
    if platform.machine() != "x86_64":
        pytest.skip("the table holds the numbers of x86-64; the profile itself is judged by test_seccomp_profile.py")
    with httpx.Client(base_url=f"{product.url}/api/v1", timeout=60) as client:
        task = ended(client, submit(client, run_manifest(command=["python3", "-c", PROBE])))
        assert task["state"] == "completed", raw_output(client, task["id"], "stderr")
        found: dict[str, str] = json.loads(raw_output(client, task["id"]))
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_s8_each_system_call_of_the_table_answers_as_the_profile_says(answers: dict[str, str], row: Row) -> None:
    assert answers[row.name] in row.answers


def test_s9_a_setuid_program_makes_nobody_root(product: Product, api: httpx.Client) -> None:
    script = "echo up; until [ -u /workspace/id ]; do sleep 0.1; done; /workspace/id -u; /workspace/id -ru; ls -ln id"
    task = started(api, run_manifest(script=script))
    [workspace] = product.directory.glob(f"work/{task}.1/**/workspace")
    shutil.copy("/usr/bin/id", workspace / "new")
    os.chown(workspace / "new", 0, 0)
    (workspace / "new").chmod(0o4755)
    (workspace / "new").rename(workspace / "id")
    assert ended(api, task)["state"] == "completed"
    up, effective, real, listed = raw_output(api, task).decode().splitlines()
    assert (up, effective, real) == ("up", "1000", "1000")
    assert listed.startswith("-rwsr-xr-x 1 0 0"), "it was root's, and setuid"


WRITE_EVERYWHERE = """
import os
for top in ("/", "/bin", "/boot", "/dev", "/etc", "/home", "/home/agent", "/lib", "/opt", "/opt/sandbox-inbox", "/proc",
            "/proc/sys/kernel", "/root", "/run", "/srv", "/sys", "/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/tmp",
            "/usr", "/usr/local/bin", "/var", "/var/lib", "/var/tmp", "/dev/shm", "/workspace"):
    try:
        os.close(os.open(os.path.join(top, "mine"), os.O_CREAT | os.O_WRONLY))
        print(top)
    except OSError:
        pass
for file in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/sys/power/state",
             "/proc/kcore", "/dev/kmsg", "/dev/mem", "/etc/passwd", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname",
             "/opt/sandbox-inbox/script"):
    try:
        os.close(os.open(file, os.O_WRONLY))
        print(file)
    except OSError:
        pass
"""


def test_s10_only_workspace_home_and_the_temporary_places_take_files(api: httpx.Client) -> None:
    task = ended(api, submit(api, run_manifest(command=["python3", "-c", WRITE_EVERYWHERE])))
    assert raw_output(api, task["id"]).decode().split() == [
        "/home/agent", "/tmp", "/var/tmp", "/dev/shm", "/workspace",
    ]  # fmt: skip


def golden(memory_bytes: int) -> Json:
    """What CIS Docker benchmark §5 asks of a container and a program can look at."""
    return {
        "Privileged": False,
        "CapAdd": None,
        "CapDrop": ["ALL"],
        "ReadonlyRootfs": True,
        "Init": True,
        "PidsLimit": PIDS,
        "Memory": memory_bytes,
        "NanoCpus": 500_000_000,
        "OomKillDisable": False,
        "OomScoreAdj": 0,
        "Ulimits": [{"Name": "nofile", "Soft": 4096, "Hard": 8192}, {"Name": "core", "Soft": 0, "Hard": 0}],
        "IpcMode": "private",
        "UTSMode": "",
        "PidMode": "",
        "UsernsMode": "",
        "CgroupnsMode": "private",
        "CgroupParent": "",
        "Devices": None,
        "DeviceRequests": None,
        "DeviceCgroupRules": None,
        "GroupAdd": None,
        "Binds": None,
        "VolumesFrom": None,
        "Sysctls": None,
        "NetworkMode": "none",
        "PortBindings": None,
        "PublishAllPorts": False,
        "Links": None,
        "ExtraHosts": None,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "AutoRemove": False,
        "LogConfig": {"Type": "json-file", "Config": {"max-file": "2", "max-size": "64m"}},
        "ShmSize": 64 * MIB,
    }


def test_s11_the_engine_holds_a_live_task_to_the_golden_list(api: httpx.Client) -> None:
    task = started(api, run_manifest(script="echo up; sleep 600"))
    argv = ["docker", "inspect", container_of(api, task)]
    [found] = json.loads(subprocess.run(argv, capture_output=True, check=True, text=True).stdout)
    host: dict[str, Any] = found["HostConfig"]
    wanted = golden(128 * MIB)
    # An engine writes an empty list or nothing for what is not set.
    assert {name: host.get(name) or None for name in wanted} == {name: value or None for name, value in wanted.items()}
    assert host["MemorySwap"] in (128 * MIB, -1), "the same as memory, or a kernel that does not account swap"
    no_new, seccomp = host["SecurityOpt"]
    assert (no_new, json.loads(seccomp.removeprefix("seccomp="))["defaultAction"]) == (
        "no-new-privileges",
        "SCMP_ACT_ERRNO",
    )
    assert {"/proc/kcore", "/proc/keys", "/proc/scsi", "/sys/firmware"} <= set(host["MaskedPaths"])
    assert {"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"} <= set(host["ReadonlyPaths"])
    mounts = {one["Destination"]: (one["Type"], one["Propagation"], one["RW"]) for one in found["Mounts"]}
    assert mounts == {
        "/workspace": ("bind", "rprivate", True),
        "/home/agent": ("bind", "rprivate", True),
        "/opt/sandbox-inbox": ("bind", "rprivate", False),
    }
    assert all("nosuid" in options and "nodev" in options for options in host["Tmpfs"].values())
    assert all("size=" in options for options in host["Tmpfs"].values())
    assert list(found["NetworkSettings"]["Networks"]) == ["none"]
    config = found["Config"]
    assert (config["User"], config["Tty"], config["Healthcheck"]) == ("1000:1000", False, {"Test": ["NONE"]})
    assert config["Image"].startswith("sha256:"), "an exact image: its name may mean another one by now"
    assert config["Labels"]["sandbox.task"] == task
    cancelled(api, task)


ORPHANS = """
import os, time
print("up", flush=True)
while not os.path.exists("go"):
    time.sleep(0.05)
for _ in range(10_000):
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.waitpid(child, 0)
print("done", flush=True)
while True:
    time.sleep(0.1)
"""


def test_s12_ten_thousand_orphans_leave_no_zombie(product: Product, api: httpx.Client) -> None:
    task = started(api, run_manifest(command=["python3", "-c", ORPHANS]))
    container = container_of(api, task)
    before = processes_in(container)
    [workspace] = product.directory.glob(f"work/{task}.1/**/workspace")
    (workspace / "go").touch()
    with unharmed(product, api):
        eventually("all orphans were made", lambda: b"done\n" in raw_output(api, task), 300)
    eventually("none is left", lambda: processes_in(container) <= before)
    assert 0 < before < 10
    cancelled(api, task)
