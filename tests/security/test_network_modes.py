"""E3, E4: whatever `network_mode` a task has, it reaches neither its host nor another task."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.stack import Product, eventually, running_product
from tests.e2e.submitting import ended, raw_output, run_manifest, submit
from tests.security.fake_internet import NAME, PORT, FakeInternet, fake_internet
from tests.security.host_service import host_service
from tests.security.reaching import reached, reaching

pytestmark = pytest.mark.docker
MODES = ("isolated", "outbound", "full")


@pytest.fixture(scope="module")
def internet() -> Iterator[FakeInternet]:
    with fake_internet() as made:
        yield made


@pytest.fixture(scope="module")
def product(docker_engine: None, internet: FakeInternet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    settings = {"SANDBOX_ALLOW_FULL_NETWORK": "1", "SANDBOX_FULL_NETWORK_DNS": internet.resolver}
    with running_product(tmp_path_factory.mktemp("full") / "data", **settings) as running:
        eventually("the worker offers its full network", lambda: "full" in modes_of(running))
        yield running


@pytest.fixture
def api(product: Product) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{product.url}/api/v1", timeout=60) as client:
        yield client


def modes_of(product: Product) -> list[str]:
    [worker] = httpx.get(f"{product.url}/api/v1/workers", timeout=30).json()["workers"]
    return list(worker["network_modes"])


def with_mode(mode: str, command: list[str]) -> dict[str, object]:
    manifest = run_manifest(command=command)
    manifest["vm"]["network_mode"] = mode
    return manifest


def outcome_of(api: httpx.Client, mode: str, targets: list[tuple[str, int]]) -> set[str]:
    task = ended(api, submit(api, with_mode(mode, reaching(targets))))
    assert task["state"] == "completed", task["outcome"]
    assert task["applied"]["network"]["effective"] == mode
    return reached(raw_output(api, task["task_id"]))


@pytest.mark.parametrize("mode", MODES)
def test_e3_a_service_of_the_host_is_out_of_reach(api: httpx.Client, internet: FakeInternet, mode: str) -> None:
    with host_service() as service:
        assert service.addresses
        targets = [(one, service.port) for one in (*service.addresses, "127.0.0.1", "localhost")]
        assert outcome_of(api, mode, targets) == set()
        assert service.visitors == []


def test_e3_on_full_the_public_is_reached_by_address_and_by_name_and_nothing_private(
    api: httpx.Client, internet: FakeInternet
) -> None:
    public = [(internet.site, PORT), (NAME, PORT)]
    private = [(one, PORT) for one in (*internet.never_public, internet.resolver)]
    assert outcome_of(api, "full", public + private) == {f"{host} {port}" for host, port in public}


@pytest.mark.parametrize("mode", ["isolated", "outbound"])
def test_e3_without_full_not_even_the_public_is_reached(api: httpx.Client, internet: FakeInternet, mode: str) -> None:
    everything = (internet.site, NAME, *internet.never_public, internet.resolver)
    assert outcome_of(api, mode, [(one, PORT) for one in everything]) == set()


LISTENING = """
import socket, subprocess, sys
server = socket.create_server(("0.0.0.0", 7000), backlog=16)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    try:
        probe.connect(("203.0.113.80", 9))
        own = probe.getsockname()[0]
    except OSError:
        own = "127.0.0.1"
socket.create_connection((own, 7000)).close()  # it is open to those who can reach it
server.accept()[0].close()
print(own, flush=True)
while True:
    client, address = server.accept()
    client.sendall(b"REACHED\\n")
    print("VISITOR", address, flush=True)
"""


@pytest.mark.parametrize("mode", MODES)
def test_e4_a_task_reaches_no_listener_of_another_task(api: httpx.Client, internet: FakeInternet, mode: str) -> None:
    listening = submit(api, with_mode(mode, ["python3", "-c", LISTENING]))
    said = eventually("the first task listens", lambda: raw_output(api, listening))
    assert isinstance(said, bytes)
    address = said.decode().strip()
    assert (address == "127.0.0.1") == (mode != "full")
    assert outcome_of(api, mode, [(address, 7000), ("127.0.0.1", 7000)]) == set()
    api.delete(f"/tasks/{listening}", params={"force": "true"})
    assert ended(api, listening)["state"] == "cancelled"
    assert b"VISITOR" not in raw_output(api, listening)


def test_e3_a_flushed_packet_filter_opens_the_host_to_no_task_that_starts(
    api: httpx.Client, product: Product, internet: FakeInternet
) -> None:
    listed = subprocess.run(["iptables", "-t", "mangle", "-S"], check=True, capture_output=True, text=True).stdout
    [bridge] = bridges_of(product)
    jumps = [line for line in listed.splitlines() if f"-i {bridge} " in line]
    assert len(jumps) == 2
    script = "".join(f"{line.replace('-A', '-D', 1)}\n" for line in jumps)
    subprocess.run(["iptables-restore", "--noflush"], input=f"*mangle\n{script}COMMIT\n", check=True, text=True)
    with host_service() as service:
        assert outcome_of(api, "full", [(one, service.port) for one in service.addresses]) == set()
        assert service.visitors == []


def bridges_of(product: Product) -> list[str]:
    argv = ["docker", "network", "ls", "--quiet", "--filter", f"label=sandbox.installation={product.installation()}"]
    networks = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
    wanted = '{{index .Options "com.docker.network.bridge.name"}}'
    argv = ["docker", "network", "inspect", "--format", wanted, *networks]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
