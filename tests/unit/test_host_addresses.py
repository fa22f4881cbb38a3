"""The addresses of the host of a worker that has a network of its own (a container), which its tasks must not reach."""

from __future__ import annotations

import ctypes
import ipaddress
import os
import subprocess
import threading
from pathlib import Path

import pytest

from orchestrator import addresses, host_addresses
from orchestrator.host_addresses import HostAddresses, addresses_in, local_in
from tests.conftest import missing
from workers.checkup import network
from workers.egress.namespace import CLONE_NEWNET
from workers.finding import Level

FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 203.0.113.0/24 2 0 2
        |-- 203.0.113.0
           /24 link UNICAST
        |-- 203.0.113.7
           /32 host LOCAL
Local:
  +-- 0.0.0.0/0 3 0 5
     |-- 127.0.0.0
        /8 host LOCAL
     |-- 198.51.100.0
        /32 link BROADCAST
        /25 host LOCAL
     |-- 203.0.113.255
        /32 link BROADCAST
"""
IF_INET6 = """\
00000000000000000000000000000001 01 80 10 80       lo
20010db8000000000000000000000007 02 40 00 00     eth0
"""


@pytest.fixture
def first_process(tmp_path: Path) -> Path:
    """Of a host whose network namespace is not ours, which cannot be looked at but through its tables."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net/fib_trie").write_text(FIB_TRIE)
    (tmp_path / "net/if_inet6").write_text(IF_INET6)
    return tmp_path


def test_the_addresses_and_ranges_that_the_kernel_takes_as_its_own_are_read() -> None:
    assert {str(one) for one in local_in(FIB_TRIE)} == {"203.0.113.7/32", "127.0.0.0/8", "198.51.100.0/25"}
    assert {str(one) for one in addresses_in(IF_INET6)} == {"::1/128", "2001:db8::7/128"}


def test_an_address_of_the_host_is_the_worker_s_own_and_its_neighbours_are_not(
    first_process: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_addresses, "THE_HOST", HostAddresses(first_process))
    for text, own in (("203.0.113.7", True), ("198.51.100.3", True), ("203.0.113.8", False), ("2001:db8::8", False)):
        assert addresses.is_own_address(ipaddress.ip_address(text)) is own
    assert addresses.fault_of(ipaddress.ip_address("203.0.113.7"), ()) == "which is the host's own"
    assert addresses.is_own_address(ipaddress.ip_address("2001:db8::7"))


def test_the_tables_are_read_again_after_a_while_only(first_process: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host, address = HostAddresses(first_process), ipaddress.ip_address("203.0.113.7")
    assert host.covers(address)
    (first_process / "net/fib_trie").write_text("")
    assert host.covers(address)
    monkeypatch.setattr(host_addresses, "CACHED_SECONDS", 0.0)
    assert not host.covers(address)


def test_in_a_network_of_its_own_a_worker_still_knows_the_addresses_of_this_host() -> None:
    if os.geteuid() != 0:
        missing("root", "run the tests as root")
    ours = [one for one in local_in(Path("/proc/1/net/fib_trie").read_text()) if not one.is_loopback]
    if not ours:
        pytest.skip("this host has no address but loopback")
    found: list[tuple[bool, bool, bool]] = []

    def run() -> None:
        assert ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0
        # Where there is no address at all the kernel lets every one be bound.
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        elsewhere = ipaddress.ip_address("192.0.2.77")
        own = addresses.is_own_address
        found.append((HostAddresses().covers(ours[0][0]), own(ours[0][0]), own(elsewhere)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [(True, True, False)]


@pytest.mark.parametrize(("engine", "seen"), [(0, True), (1, False)], ids=["other process ids", "hidden"])
def test_the_doctor_says_what_a_worker_that_sees_nothing_of_its_host_does_not_cover(
    engine: int, seen: bool, first_process: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = HostAddresses(first_process if seen else tmp_path / "nothing")
    monkeypatch.setattr(network, "THE_HOST", shown)
    monkeypatch.setattr(network, "engine_process", lambda: engine)
    [finding] = network.host_addresses_seen()
    assert finding.level is Level.NOTE
    assert "a name that leads to one is let through" in finding.seen
    assert "firewall" in str(finding.advice)


def test_the_doctor_is_content_where_the_host_s_addresses_are_seen(
    first_process: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "THE_HOST", HostAddresses(first_process))
    monkeypatch.setattr(network, "engine_process", os.getpid)
    assert [one.level for one in network.host_addresses_seen()] == [Level.OK]
