"""E3: the full network of a worker is closed to its host, or no sandbox starts on it."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.settings import load
from tests.conftest import missing
from workers.network.full import FullNetwork, FullNetworkUnavailable, plan_of
from workers.network.plan import Plan
from workers.sandbox.docker.engine import DockerBackend

pytestmark = pytest.mark.docker
INSTALLATION = f"test-{uuid.uuid4()}"
RESOLVER = "203.0.113.53"
"""Nobody is asked here."""


@pytest.fixture
def backend() -> Iterator[DockerBackend]:
    if os.geteuid() != 0:
        missing("the right to change the packet filter", "run the tests as root")
    made = DockerBackend(INSTALLATION, "worker")
    yield made
    made.close()


def network_of(backend: DockerBackend, data_dir: Path, worker: str = "worker", **environment: str) -> FullNetwork:
    settings = {"SANDBOX_ALLOW_FULL_NETWORK": "1", "SANDBOX_FULL_NETWORK_DNS": RESOLVER, **environment}
    return FullNetwork.of(backend, load(settings, data_dir=data_dir, worker_name=worker), INSTALLATION)


def plan_for(data_dir: Path, worker: str = "worker") -> Plan:
    return plan_of(load({"SANDBOX_FULL_NETWORK_DNS": RESOLVER}, data_dir=data_dir, worker_name=worker), INSTALLATION)


@pytest.fixture
def full(backend: DockerBackend, tmp_path: Path) -> Iterator[FullNetwork]:
    made = network_of(backend, tmp_path)
    made.look()
    assert made.trouble is None
    yield made
    made.remove()
    assert left(plan_for(tmp_path)) == []


def left(plan: Plan) -> list[str]:
    """What there is of a plan on this host."""
    rules = [rules_of(program, plan) for program in ("iptables", "ip6tables")]
    argv = ["docker", "network", "ls", "--format", "{{.Name}}"]
    networks = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
    interfaces = [one.name for one in Path("/sys/class/net").iterdir()]
    return [*rules[0], *rules[1], *(one for one in (*networks, *interfaces) if one in (plan.network, plan.bridge))]


def rules_of(program: str, plan: Plan) -> list[str]:
    argv = [program, "--wait=10", "--table", "mangle", "--list-rules"]
    listed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if plan.chain in line]


def change(program: str, *words: str) -> None:
    subprocess.run([program, "--wait=10", "--table", "mangle", *words], check=True)


def flush_chain(plan: Plan) -> None:
    change("iptables", "--flush", plan.chain)


def swap_rule(plan: Plan) -> None:
    change("iptables", "--replace", plan.chain, "4", "--destination", "9.9.9.9", "--jump", "RETURN")


def open_ipv6(plan: Plan) -> None:
    change("ip6tables", "--flush", plan.host_chain)


def remove_network(plan: Plan) -> None:
    subprocess.run(["docker", "network", "rm", plan.network], check=True, capture_output=True)


def replace_network(plan: Plan) -> None:
    remove_network(plan)
    subprocess.run(["docker", "network", "create", plan.network], check=True, capture_output=True)


@pytest.mark.parametrize("harm", [flush_chain, swap_rule, open_ipv6, remove_network, replace_network])
def test_e3_what_somebody_changed_refuses_the_next_start_and_is_put_back(
    full: FullNetwork, tmp_path: Path, harm: object
) -> None:
    assert callable(harm)
    full.check()
    harm(plan_for(tmp_path))
    with pytest.raises(FullNetworkUnavailable, match="is not closed as it must be, so no sandbox starts on it"):
        full.check()
    full.look()
    full.check()
    assert full.trouble is None


def test_e3_making_it_again_changes_nothing_and_a_worker_that_starts_again_takes_it_over(
    full: FullNetwork, backend: DockerBackend, tmp_path: Path
) -> None:
    plan = plan_for(tmp_path)
    before = left(plan)
    full.look()
    successor = network_of(backend, tmp_path)
    successor.look()
    successor.check()
    assert left(plan) == before


def test_e3_the_networks_of_two_workers_do_not_touch_each_other(
    full: FullNetwork, backend: DockerBackend, tmp_path: Path
) -> None:
    other = network_of(backend, tmp_path, "another")
    other.look()
    assert other.trouble is None
    full.look()
    other.check()
    full.check()
    other.remove()
    full.check()
    assert left(plan_for(tmp_path, "another")) == []


def test_e3_an_operator_who_turns_it_off_gets_it_removed(
    full: FullNetwork, backend: DockerBackend, tmp_path: Path
) -> None:
    off = network_of(backend, tmp_path, SANDBOX_ALLOW_FULL_NETWORK="0")
    off.look()
    assert "SANDBOX_ALLOW_FULL_NETWORK" in str(off.trouble)
    assert left(plan_for(tmp_path)) == []
    with pytest.raises(FullNetworkUnavailable, match="refused"):
        off.check()


def test_e3_a_network_in_use_keeps_its_rules(full: FullNetwork, tmp_path: Path) -> None:
    plan = plan_for(tmp_path)
    argv = ["docker", "run", "--detach", "--rm", f"--network={plan.network}", "sandbox/basic:latest", "sleep", "600"]
    container = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    try:
        full.remove()
        assert len(rules_of("iptables", plan)) > 10
        assert len(rules_of("ip6tables", plan)) > 3
    finally:
        subprocess.run(["docker", "rm", "--force", container], check=True, capture_output=True)


@pytest.mark.parametrize("resolver", ["127.0.0.1", "172.17.0.1"])
def test_e3_a_resolver_on_the_host_itself_is_refused_with_what_to_do(
    backend: DockerBackend, tmp_path: Path, resolver: str
) -> None:
    if resolver not in own_addresses():
        pytest.skip(f"{resolver} is no address of this host")
    refused = network_of(backend, tmp_path, SANDBOX_FULL_NETWORK_DNS=resolver)
    refused.look()
    assert "SANDBOX_FULL_NETWORK_DNS" in str(refused.trouble)
    assert left(plan_for(tmp_path)) == []


def own_addresses() -> str:
    return subprocess.run(["ip", "-brief", "address"], check=True, capture_output=True, text=True).stdout
