"""The rules of the full network: what they say, and how they are known again."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from workers.network.plan import (
    Plan,
    make_plan,
    missing_in,
    ours,
    removal_text,
    resolvers_in,
    restore_text,
)

PLAN = Plan("installation", "worker", ("10.0.0.53",), ("10.7.0.0/16",))
EMPTY = "-P INPUT ACCEPT\n-P FORWARD ACCEPT\n"


def listed(plan: Plan, version: int = 4, *, before: str = "", after: str = "") -> str:
    """What `iptables -S` says after the rules were restored, other rules of the hooks around them."""
    lines = [line for line in restore_text(plan, version, EMPTY).splitlines() if line.startswith(("-A", "-I"))]
    jumps = [line.replace("-I INPUT 1", "-A INPUT").replace("-I FORWARD 1", "-A FORWARD") for line in lines]
    chains = [f"-N {plan.chain}", f"-N {plan.host_chain}"]
    return "\n".join([*EMPTY.splitlines(), *chains, *filter(None, [before]), *jumps, *filter(None, [after])])


def verdict(plan: Plan, address: str, port: int = 443, protocol: str = "tcp", out: str = "eth0") -> str:
    """Walk the forwarded packets' chain as the kernel does: the first rule that fits decides."""
    for line in restore_text(plan, 4, EMPTY).splitlines():
        words = line.split()
        if words[:2] != ["-A", plan.chain]:
            continue
        given = dict(zip(words[2::2], words[3::2], strict=False))
        fits = (
            ipaddress.ip_address(address) in ipaddress.ip_network(given.get("-d", "0.0.0.0/0"))
            and given.get("-o", out) == out
            and given.get("-p", protocol) == protocol
            and int(given.get("--dport", port)) == port
        )
        if fits:
            return words[-1]
    return "RETURN"


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.9.9", "192.168.1.1", "100.64.0.1", "169.254.169.254",
     "168.63.129.16", "100.100.100.200", "192.0.0.192", "127.0.0.1", "0.0.0.1", "224.0.0.1", "255.255.255.255"],
)  # fmt: skip
def test_what_is_not_public_is_dropped(address: str) -> None:
    assert verdict(PLAN, address) == "DROP"


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "172.15.0.1", "172.32.0.1", "192.167.1.1", "100.63.0.1", "223.255.255.1"]
)
def test_what_is_public_goes_on(address: str) -> None:
    assert verdict(PLAN, address) == "RETURN"


def test_a_private_range_that_the_operator_opens_is_open_and_nothing_beside_it() -> None:
    assert verdict(PLAN, "10.7.1.1") == "RETURN"
    assert verdict(PLAN, "10.8.1.1") == "DROP"


def test_no_range_opens_metadata_services_or_other_sandboxes() -> None:
    everything = replace(PLAN, opened=("0.0.0.0/0",))
    assert verdict(everything, "169.254.169.254") == "DROP"
    assert verdict(everything, "192.168.1.1") == "RETURN"
    assert verdict(everything, "192.168.1.1", out=PLAN.bridge) == "DROP"


def test_a_resolver_is_asked_for_names_and_for_nothing_else() -> None:
    assert [verdict(PLAN, "10.0.0.53", 53, protocol) for protocol in ("udp", "tcp", "icmp")] == [
        "RETURN",
        "RETURN",
        "DROP",
    ]
    assert verdict(PLAN, "10.0.0.53", 80) == "DROP"
    assert verdict(replace(PLAN, resolvers=("169.254.169.254",)), "169.254.169.254", 53, "udp") == "RETURN"
    assert verdict(PLAN, "10.0.0.53", 53, "udp", out=PLAN.bridge) == "DROP"


def test_the_host_drops_all_that_comes_from_the_bridge_and_ipv6_is_closed() -> None:
    assert f'-A {PLAN.host_chain} -m comment --comment "the host itself" -j DROP' in restore_text(PLAN, 4, EMPTY)
    chains = [line for line in restore_text(PLAN, 6, EMPTY).splitlines() if line.startswith("-A")]
    assert [line.split()[-1] for line in chains] == ["DROP", "DROP"]
    assert "-d" not in " ".join(chains).split()


@pytest.mark.parametrize("version", [4, 6])
def test_rules_as_they_were_made_are_in_place_also_beside_those_of_other_workers(version: int) -> None:
    other = replace(PLAN, worker="another")
    jumps = "\n".join(line for line in listed(other, version).splitlines() if line.startswith(("-A INPUT", "-A FORW")))
    assert missing_in(PLAN, version, listed(PLAN, version)) is None
    assert missing_in(PLAN, version, listed(PLAN, version, before=jumps, after="-A INPUT -j ACCEPT")) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _: EMPTY, "INPUT does not call"),
        (lambda text: text.replace(f"-i {PLAN.bridge} ", "-i eth7 "), "INPUT does not call"),
        (lambda text: without(text, "-A FORWARD"), "FORWARD does not call"),
        (lambda text: without(text, "172.16.0.0/12"), "has"),
        (lambda text: without(text, "the host itself"), "has 0 of 1 rules"),
        (lambda text: text.replace("-A INPUT", "-A INPUT -j ACCEPT\n-A INPUT", 1), "another rule stands before"),
    ],
)
def test_what_is_missing_is_named(change: object, words: str) -> None:
    assert callable(change)
    found = missing_in(PLAN, 4, change(listed(PLAN)))
    assert found is not None
    assert words in found


def without(text: str, part: str) -> str:
    return "\n".join(line for line in text.splitlines() if part not in line)


def test_making_them_again_replaces_the_calls_and_removing_them_leaves_what_others_made() -> None:
    present = listed(PLAN, before="-A INPUT -s 9.9.9.9/32 -j DROP")
    again = restore_text(PLAN, 4, present).splitlines()
    assert sum(line.startswith("-D INPUT") for line in again) == 1
    assert sum(line.startswith("-I INPUT 1") for line in again) == 1
    gone = removal_text(PLAN, present)
    assert "9.9.9.9" not in gone
    assert [line.split()[0] for line in gone.splitlines()] == ["*mangle", "-D", "-D", "-F", "-F", "-X", "-X", "COMMIT"]
    assert removal_text(PLAN, EMPTY) == ""


def test_ours_are_the_lines_of_this_worker_alone() -> None:
    assert ours(replace(PLAN, worker="another"), listed(PLAN)) == ()
    assert len(ours(PLAN, listed(PLAN))) > 10


def test_names_fit_the_kernel_and_tell_workers_apart() -> None:
    assert len(PLAN.bridge) <= 15
    assert len(PLAN.host_chain) <= 28
    assert len({PLAN.bridge, replace(PLAN, worker="b").bridge, replace(PLAN, installation="b").bridge}) == 3


def test_resolvers_are_those_that_a_sandbox_could_ask() -> None:
    servers = ("127.0.0.53", "10.0.0.2 # x", "fd00::1", "10.0.0.2", "")
    text = "search lan\n" + "".join(f"nameserver {one}\n" for one in servers)
    assert resolvers_in(text) == ("10.0.0.2",)
    assert resolvers_in("nameserver 127.0.0.53\noptions edns0\nnameserver nonsense\n") == ()


def test_of_private_ranges_ipv6_has_no_effect() -> None:
    assert make_plan("i", "w", ["10.0.0.1"], ["fc00::/7", "10.1.2.3/16"]).opened == ("10.1.0.0/16",)
