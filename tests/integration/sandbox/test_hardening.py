"""A live sandbox seen from inside: each row of the profile that a task could feel."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.integration.sandbox.conftest import RunInside, SpecOf
from tests.integration.test_sandbox_images import make_npm_package, make_wheel
from workers.sandbox.docker.engine import DockerBackend
from workers.sandbox.launcher import gate_script
from workers.sandbox.port import Mount
from workers.workspace import sandbox_user_id

pytestmark = [
    pytest.mark.docker,
    # The SDK leaves sockets of calls that failed to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

LOOK_AROUND = r"""
import ctypes, errno, json, os, platform, resource, socket

def tried(work):
    try:
        work()
        return "open"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))

libc = ctypes.CDLL(None, use_errno=True)
NUMBERS = {"x86_64": {"unshare": 272, "mount": 165, "keyctl": 250, "bpf": 321},
           "aarch64": {"unshare": 97, "mount": 40, "keyctl": 219, "bpf": 280}}[platform.machine()]

def call(number, *arguments):
    def work():
        if libc.syscall(*map(ctypes.c_long, (number, *arguments))) < 0:
            raise OSError(ctypes.get_errno(), "")
    return tried(work)

def write(path):
    def work():
        with open(os.path.join(path, "x"), "w") as file:
            file.write("x")
    return tried(work)

status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
mounts = {}
for line in open("/proc/self/mounts"):
    device, target, kind, options = line.split()[:4]
    mounts[target] = [kind, sorted(options.split(","))]
print(json.dumps({
    "status": {name: status[name].strip() for name in status if name[:3] == "Cap" or name in
               ("Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp")},
    "mounts": mounts,
    "interfaces": [name for _, name in socket.if_nameindex()],
    "routes": open("/proc/net/route").read().splitlines()[1:],
    "hostname": socket.gethostname(),
    "first": open("/proc/1/comm").read().strip(),
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "limits": {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in ("NOFILE", "CORE")},
    "environment": sorted(os.environ),
    "descriptors": {number: os.readlink("/proc/self/fd/" + number) for number in ("0", "1", "2")},
    "inherited": [number for number in range(3, 64) if tried(lambda: os.fstat(number)) == "open"],
    "writes": {path: write(path) for path in
               ("/", "/etc", "/usr/bin", "/root", "/home/agent", "/run", "/proc/sys/kernel", "/sys/kernel",
                "/tmp", "/var/tmp", "/dev/shm", "/workspace", "/opt/sandbox-inbox")},
    "devices": {name: os.path.exists("/dev/" + name) for name in ("sda", "vda", "mem", "kmsg", "fuse", "net/tun")},
    "engine_socket": os.path.exists("/var/run/docker.sock"),
    "sizes": {path: os.statvfs(path).f_blocks * os.statvfs(path).f_frsize for path in ("/tmp", "/var/tmp", "/dev/shm")},
    "connect": tried(lambda: socket.create_connection(("192.0.2.1", 80), 5)),
    "resolve": tried(lambda: socket.getaddrinfo("example.org", 80)),
    "calls": {
        "vsock": tried(lambda: socket.socket(40, socket.SOCK_STREAM)),
        "packet": tried(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
        "raw": tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
        "io_uring": call(425, 8, 0),
        "unshare_user": call(NUMBERS["unshare"], 0x10000000),
        "unshare_net": call(NUMBERS["unshare"], 0x40000000),
        "mount": call(NUMBERS["mount"], 0, 0, 0, 0, 0),
        "keyctl": call(NUMBERS["keyctl"], 0, 0),
        "bpf": call(NUMBERS["bpf"], 0, 0, 0),
        "setuid_root": tried(lambda: os.setuid(0)),
        "chroot": tried(lambda: os.chroot("/tmp")),
        "mknod": tried(lambda: os.mknod("/tmp/null", 0o20666, os.makedev(1, 3))),
        "nice": tried(lambda: os.nice(-5)),
    },
}))
"""


@pytest.fixture(scope="module")
def facts(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {}


@pytest.fixture
def seen(
    facts: dict[str, Any], run_inside: RunInside, spec_of: SpecOf, owned: Callable[[str], Path], tmp_path: Path
) -> dict[str, Any]:
    """What a program in a sandbox sees; one sandbox for all tests of this module."""
    if not facts:
        inbox = tmp_path / "inbox"
        inbox.mkdir()
        mounts = (Mount(owned("workspace"), "/workspace"), Mount(inbox, "/opt/sandbox-inbox", read_only=True))
        result = run_inside(["python3", "-c", LOOK_AROUND], spec_of(mounts=mounts), environment={"GIVEN": "1"})
        assert result.exit_code == 0, result.stderr
        facts.update(json.loads(result.stdout))
    return facts


def test_the_command_is_nobody_in_particular_and_cannot_become_anybody(seen: dict[str, Any]) -> None:
    user = sandbox_user_id()
    assert seen["status"]["Groups"] in {"", str(user)}
    assert {name: value for name, value in seen["status"].items() if name != "Groups"} == {
        "Uid": "\t".join([str(user)] * 4),
        "Gid": "\t".join([str(user)] * 4),
        "CapInh": "0" * 16,
        "CapPrm": "0" * 16,
        "CapEff": "0" * 16,
        "CapBnd": "0" * 16,
        "CapAmb": "0" * 16,
        "NoNewPrivs": "1",
        "Seccomp": "2",
    }


@pytest.mark.parametrize(
    ("call", "refusals"),
    [
        ("vsock", {"EPERM"}),
        ("packet", {"EPERM"}),
        ("raw", {"EPERM"}),
        ("io_uring", {"EPERM"}),
        ("unshare_user", {"EPERM"}),
        ("unshare_net", {"EPERM"}),
        ("mount", {"EPERM"}),
        ("keyctl", {"EPERM"}),
        ("bpf", {"EPERM"}),
        ("setuid_root", {"EPERM"}),
        ("chroot", {"EPERM"}),
        ("mknod", {"EPERM"}),
        ("nice", {"EPERM", "EACCES"}),
    ],
)
def test_a_system_call_that_leads_out_is_refused(seen: dict[str, Any], call: str, refusals: set[str]) -> None:
    assert seen["calls"][call] in refusals


def test_there_is_no_network_but_loopback_and_no_resolver(seen: dict[str, Any]) -> None:
    assert (seen["interfaces"], seen["routes"]) == (["lo"], [])
    assert seen["connect"] == "ENETUNREACH"
    assert seen["resolve"] != "open"


def test_only_the_workspace_and_the_temporary_places_take_files(seen: dict[str, Any]) -> None:
    open_ones = {path for path, answer in seen["writes"].items() if answer == "open"}
    assert open_ones == {"/tmp", "/var/tmp", "/dev/shm", "/workspace"}
    assert {seen["writes"][path] for path in ("/", "/etc", "/usr/bin", "/home/agent")} <= {"EROFS", "EACCES"}
    assert seen["writes"]["/opt/sandbox-inbox"] in {"EROFS", "EACCES"}


def test_the_temporary_places_have_a_size_and_hold_no_devices(seen: dict[str, Any]) -> None:
    assert seen["sizes"] == {"/tmp": 32 << 20, "/var/tmp": 32 << 20, "/dev/shm": 64 << 20}
    for path in ("/tmp", "/var/tmp", "/run", "/dev/shm"):
        kind, options = seen["mounts"][path]
        assert kind == "tmpfs"
        assert {"nosuid", "nodev"} <= set(options)
    assert "noexec" in seen["mounts"]["/run"][1]
    assert "ro" in seen["mounts"]["/"][1]


def test_nothing_of_the_host_is_in_sight(seen: dict[str, Any]) -> None:
    assert not any(seen["devices"].values())
    assert seen["engine_socket"] is False
    assert seen["hostname"] == "sandbox"
    assert len(seen["processes"]) <= 3


def test_an_init_is_the_first_process_and_the_command_inherits_nothing(seen: dict[str, Any]) -> None:
    assert "init" in seen["first"]
    assert seen["descriptors"]["0"] == "/dev/null"
    assert seen["inherited"] == []


def test_the_environment_is_the_image_s_and_what_was_given(seen: dict[str, Any]) -> None:
    shell = {"PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"}
    image = {"HOME", "PATH", "LANG", "VIRTUAL_ENV", "PIP_DISABLE_PIP_VERSION_CHECK", "HOSTNAME"}
    assert set(seen["environment"]) - shell == image | {"GIVEN"}


def test_files_and_core_dumps_are_limited(seen: dict[str, Any]) -> None:
    assert seen["limits"] == {"NOFILE": [4096, 8192], "CORE": [0, 0]}


FORK_BOMB = """
import os, time
made = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        made += 1
except BlockingIOError:
    print(made, flush=True)
os._exit(0)
"""


def test_a_fork_bomb_stops_at_the_limit_of_processes(run_inside: RunInside, spec_of: SpecOf) -> None:
    result = run_inside(["python3", "-c", FORK_BOMB], spec_of(pids=40))
    assert result.exit_code == 0, result.stderr
    assert 20 < int(result.stdout) < 40


def test_a_command_that_needs_too_much_memory_is_killed_and_it_is_known_why(
    backend: DockerBackend, spec_of: SpecOf
) -> None:
    made = backend.create(spec_of(memory_bytes=64 << 20))
    try:
        stream = backend.attach(made)
        backend.start(made)
        os.write(stream, gate_script(["python3", "-c", "b'x' * (1 << 30)"], {}, "/"))
        while os.read(stream, 1 << 16):
            pass
        os.close(stream)
        give_up_at = time.monotonic() + 60
        while (found := backend.inspect(made)).running and time.monotonic() < give_up_at:
            time.sleep(0.01)
        assert (found.exit_code, found.oom_killed) == (137, True)
    finally:
        backend.destroy(made)


def test_a_temporary_file_stops_at_the_size_of_its_place(run_inside: RunInside, spec_of: SpecOf) -> None:
    script = "dd if=/dev/zero of=/tmp/a bs=1M count=100; rm /tmp/a; dd if=/dev/zero of=/var/tmp/a bs=1M count=20"
    result = run_inside(["sh", "-c", script], spec_of(tmp_bytes=32 << 20))
    assert result.exit_code == 0
    assert result.stderr.count("No space left on device") == 1


def test_a_daemon_that_hides_ends_with_its_sandbox(run_inside: RunInside) -> None:
    began = time.monotonic()
    result = run_inside(["sh", "-c", "setsid sh -c 'sleep 1000 & sleep 1000' </dev/null & echo up"])
    assert (result.exit_code, result.stdout) == (0, "up\n")
    assert time.monotonic() - began < 900  # far below the daemon's own time


HOST_CONFIG = {
    "AutoRemove": False,
    "Binds": None,
    "CapAdd": None,
    "CapDrop": ["ALL"],
    "CgroupnsMode": "private",
    "Devices": None,
    "Dns": None,
    "ExtraHosts": None,
    "GroupAdd": None,
    "Init": True,
    "IpcMode": "private",
    "LogConfig": {"Type": "json-file", "Config": {"max-file": "2", "max-size": "64m"}},
    "Memory": 256 << 20,
    "NanoCpus": 1_000_000_000,
    "NetworkMode": "none",
    "OomKillDisable": False,
    "PidMode": "",
    "PidsLimit": 128,
    "PortBindings": None,
    "Privileged": False,
    "PublishAllPorts": False,
    "ReadonlyRootfs": True,
    "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    "ShmSize": 64 << 20,
    "UTSMode": "",
    "VolumesFrom": None,
}


@pytest.fixture
def waiting(backend: DockerBackend, spec_of: SpecOf) -> Iterator[str]:
    made = backend.create(spec_of())
    stream = backend.attach(made)
    backend.start(made)
    yield made
    os.close(stream)
    backend.destroy(made)


def test_the_engine_holds_a_live_sandbox_to_the_golden_list(waiting: str, engine: docker.APIClient) -> None:
    found = engine.inspect_container(waiting)
    host = found["HostConfig"]
    # An engine writes an empty list, false or nothing for what is not set.
    assert {name: host.get(name) or None for name in HOST_CONFIG} == {
        name: value or None for name, value in HOST_CONFIG.items()
    }
    assert "/proc/kcore" in host["MaskedPaths"]
    assert "/proc/sys" in host["ReadonlyPaths"]
    assert [one["Destination"] for one in found["Mounts"]] == []
    assert list(found["NetworkSettings"]["Networks"]) == ["none"]


def test_what_came_through_the_gate_is_in_no_configuration_of_the_engine(
    backend: DockerBackend, engine: docker.APIClient, spec_of: SpecOf
) -> None:
    canary = "canary-8122-in-the-environment"
    made = backend.create(spec_of())
    try:
        stream = backend.attach(made)
        backend.start(made)
        os.write(stream, gate_script(["sh", "-c", "echo up; sleep 1000"], {"CANARY": canary}, "/"))
        assert b"up" in os.read(stream, 100)
        assert canary not in json.dumps(engine.inspect_container(made))
        files = Path(engine.info()["DockerRootDir"]) / "containers" / made
        if os.geteuid() == 0 and files.exists():
            assert [one for one in files.rglob("*") if one.is_file() and canary.encode() in one.read_bytes()] == []
        os.close(stream)
    finally:
        backend.destroy(made)


@pytest.fixture
def share(tmp_path: Path) -> Mount:
    directory = tmp_path / "share"
    directory.mkdir()
    make_wheel(directory)
    make_npm_package(directory)
    return Mount(directory, "/share", read_only=True)


def test_a_task_installs_packages_into_its_home(
    run_inside: RunInside, spec_of: SpecOf, home_and_workspace: tuple[Mount, Mount], share: Mount
) -> None:
    script = """
        set -eu
        pip install --quiet --no-index /share/*.whl; greeting; command -v greeting
        cp -r /share/salute .; npm install --global --silent ./salute >&2; salute; command -v salute
        echo $HOME; echo $PATH
    """
    spec = spec_of(
        image="sandbox/agentic-dev:latest", mounts=(*home_and_workspace, share), memory_bytes=1 << 30, cpus=2.0
    )
    result = run_inside(["bash", "-c", script], spec, directory="/workspace")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "hello from the wheel",
        "/home/agent/.venv/bin/greeting",
        "hello from npm",
        "/home/agent/.npm-global/bin/salute",
        "/home/agent",
        "/home/agent/.venv/bin:/home/agent/.local/bin:/home/agent/.npm-global/bin:/usr/local/bin:/usr/bin:/bin",
    ]
