"""E2, E4, E5 where the worker is not root: the way out of a sandbox leads through a sidecar, and nowhere else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.stack import Product, eventually
from tests.e2e.submitting import ended, raw_output, run_manifest, submit
from tests.security.fake_internet import LINK_LOCAL, PORT, SITE, FakeInternet, fake_internet
from tests.security.host_service import host_service, own_addresses
from tests.security.unprivileged import unprivileged_product

pytestmark = pytest.mark.docker
ALLOWED, OTHER = "allowed.test", "other.test"
TO_METADATA, TO_HOST, TO_LOOPBACK = "metadata.test", "host.test", "loopback.test"


@pytest.fixture(scope="module")
def internet() -> Iterator[FakeInternet]:
    with fake_internet() as made:
        yield made


@pytest.fixture(scope="module")
def product(docker_engine: None, internet: FakeInternet) -> Iterator[Product]:
    leads_to = {ALLOWED: SITE, OTHER: SITE, TO_METADATA: LINK_LOCAL, TO_HOST: own_addresses()[0]}
    with unprivileged_product({**leads_to, TO_LOOPBACK: "127.0.0.1"}) as running:
        yield running


@pytest.fixture
def api(product: Product) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{product.url}/api/v1", timeout=60) as client:
        yield client


def outbound(hosts: list[str], **sections: Any) -> dict[str, Any]:
    manifest = run_manifest(**sections)
    manifest["vm"] |= {"network_mode": "outbound", "allowed_hosts": hosts}
    return manifest


TRYING = """
import json, socket, sys
def direct(host, port, kind=socket.SOCK_STREAM):
    try:
        with socket.socket(socket.AF_INET, kind) as one:
            one.settimeout(3)
            one.connect((host, port))
            one.send(b"?")
            return one.recv(100).decode()
    except OSError as error:
        return type(error).__name__
def ask(text):
    try:
        with socket.create_connection(("127.0.0.1", 3128), 10) as one:
            one.sendall(text.encode())
            answer = b""
            while more := one.recv(4096):
                answer += more
            return answer.decode()
    except OSError as error:
        return type(error).__name__
tries = json.loads(sys.argv[1])
print(json.dumps({
    **{f"tcp {host}:{port}": direct(host, port) for host, port in tries["direct"]},
    **{f"udp {host}:{port}": direct(host, port, socket.SOCK_DGRAM) for host, port in tries["direct"]},
    **{text: ask(text) for text in tries["asked"]},
}))
"""


def tried(api: httpx.Client, hosts: list[str], direct: list[tuple[str, int]], asked: list[str]) -> dict[str, str]:
    """What each attempt of one task got."""
    command = ["python3", "-c", TRYING, json.dumps({"direct": direct, "asked": asked})]
    task = ended(api, submit(api, outbound(hosts, command=command)))
    assert task["state"] == "completed", task["outcome"]
    assert task["applied"]["network"]["effective"] == "outbound"
    assert "sidecar" in task["applied"]["network"]["mechanism"]
    found: dict[str, str] = json.loads(raw_output(api, task["task_id"]))
    return found


def connect_to(authority: str) -> str:
    return f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"


def test_e2_only_the_allowed_host_is_reached_and_only_by_its_name(api: httpx.Client, internet: FakeInternet) -> None:
    hosts = [f"{one}:{PORT}" for one in (ALLOWED, TO_METADATA, TO_LOOPBACK, TO_HOST)]
    with host_service() as service:
        direct = [(SITE, PORT), (internet.resolver, 53), (LINK_LOCAL, PORT), ("127.0.0.11", 53)]
        direct += [(one, service.port) for one in service.addresses if ":" not in one]
        refused = [
            connect_to(f"{one}:{PORT}")
            for one in (
                SITE,
                OTHER,
                "3405803856",
                "0xcb.0x0.0x71.0x50",
                TO_METADATA,
                TO_LOOPBACK,
                TO_HOST,
                "x." + ALLOWED,
            )
        ]
        refused += [connect_to(f"{ALLOWED}:443"), connect_to("127.0.0.1:3128"), connect_to("localhost:3128")]
        refused += [f"GET http://{OTHER}:{PORT}/ HTTP/1.1\r\nHost: {ALLOWED}\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"]
        found = tried(api, hosts, direct, [connect_to(f"{ALLOWED}:{PORT}"), *refused])
        assert service.visitors == []
    assert found.pop(connect_to(f"{ALLOWED}:{PORT}")).endswith("REACHED\n")
    assert [text for text, answer in found.items() if "REACHED" in answer or " 200 " in answer] == []
    assert {answer.split("\r\n")[0] for text, answer in found.items() if text in refused} == {"HTTP/1.1 403 Forbidden"}


def test_e9_an_empty_list_lets_nothing_through(api: httpx.Client, internet: FakeInternet) -> None:
    found = tried(api, [], [(SITE, PORT)], [connect_to(f"{ALLOWED}:{PORT}")])
    assert not any("REACHED" in answer for answer in found.values())


def sidecars(product: Product) -> list[str]:
    filters = [f"label=sandbox.installation={product.installation()}", "label=sandbox.role=egress"]
    argv = ["docker", "ps", "--all", "--quiet", "--no-trunc", *(f"--filter={one}" for one in filters)]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()


REPEATING = """
import socket, time
while True:
    try:
        with socket.create_connection(("127.0.0.1", 3128), 10) as one:
            one.sendall(b"CONNECT allowed.test:8080 HTTP/1.1\\r\\n\\r\\n")
            answer = b""
            while more := one.recv(4096):
                answer += more
            print("REACHED" if b"REACHED" in answer else "closed", flush=True)
    except OSError as error:
        print("closed", flush=True)
    time.sleep(0.2)
"""


def test_e5_it_is_closed_while_the_worker_is_dead_and_open_when_it_is_back(
    api: httpx.Client, product: Product, internet: FakeInternet
) -> None:
    task = submit(api, outbound([f"{ALLOWED}:{PORT}"], command=["python3", "-c", REPEATING]))
    eventually("it gets out", lambda: b"REACHED" in raw_output(api, task))
    [sidecar] = sidecars(product)
    assert hardening_of(sidecar) == {
        "CapDrop": ["ALL"], "ReadonlyRootfs": True, "PidsLimit": 128, "Privileged": False, "Binds": None,
    }  # fmt: skip
    os.kill(product.child("worker"), signal.SIGKILL)
    closed = eventually("it is closed, and open again", lambda: ends_with_reached(raw_output(api, task)))
    assert closed
    assert sidecars(product) == [sidecar]  # the same one is used on
    api.delete(f"/tasks/{task}", params={"force": "true"})
    assert ended(api, task)["state"] == "cancelled"
    assert sidecars(product) == []


def ends_with_reached(output: bytes) -> bool:
    lines = output.splitlines()
    return b"closed" in lines and lines[-1] == b"REACHED"


def hardening_of(container: str) -> dict[str, Any]:
    argv = ["docker", "inspect", "--format", "{{json .HostConfig}}", container]
    found = json.loads(subprocess.run(argv, check=True, capture_output=True).stdout)
    return {name: found[name] for name in ("CapDrop", "ReadonlyRootfs", "PidsLimit", "Privileged", "Binds")}


def test_a_preserved_sandbox_leaves_no_sidecar(api: httpx.Client, product: Product, internet: FakeInternet) -> None:
    lifecycle = {"failure_action": "preserve", "preserve_for": "10m"}
    task = ended(api, submit(api, outbound([f"{ALLOWED}:{PORT}"], command=["false"], lifecycle=lifecycle)))
    assert task["state"] == "failed_preserved"
    assert sidecars(product) == []
    assert api.delete(f"/tasks/{task['task_id']}/data").status_code == 204
    eventually("the preserved sandbox is gone", lambda: not product.containers())


LISTENING = """
import socket
server = socket.create_server(("0.0.0.0", 7000))
print("up", flush=True)
client, _ = server.accept()
print("VISITOR", flush=True)
"""


def test_e4_a_task_reaches_no_listener_of_another_task(
    api: httpx.Client, product: Product, internet: FakeInternet
) -> None:
    hosts = [f"{ALLOWED}:{PORT}", f"{TO_LOOPBACK}:7000"]
    listening = submit(api, outbound(hosts, command=["python3", "-c", LISTENING]))
    eventually("the first task listens", lambda: raw_output(api, listening))
    found = tried(api, hosts, [("127.0.0.1", 7000)], [connect_to(f"{TO_LOOPBACK}:7000")])
    assert not any("REACHED" in answer or " 200 " in answer for answer in found.values())
    api.delete(f"/tasks/{listening}", params={"force": "true"})
    assert ended(api, listening)["state"] == "cancelled"
    assert raw_output(api, listening) == b"up\n"
    assert sidecars(product) == []


def test_e5_a_worker_that_dies_beside_an_open_sidecar_leaves_none_of_it(
    docker_engine: None, internet: FakeInternet
) -> None:
    with (
        unprivileged_product({ALLOWED: SITE}, SANDBOX_TEST_FAULTS="kill@sandbox_verified") as broken,
        httpx.Client(base_url=f"{broken.url}/api/v1", timeout=60) as api,
    ):
        task = ended(api, submit(api, outbound([f"{ALLOWED}:{PORT}"], command=["true"])))
        assert task["state"] == "completed", task["outcome"]
        assert len(task["attempts"]) == 2
        assert sidecars(broken) == []
