"""Where a sandbox's proxy connects to: no network is used here."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence

import pytest

from orchestrator.addresses import fault_of, is_own_address, system_lookup
from orchestrator.contacts import EgressRule
from workers.egress.denial import Denied
from workers.egress.policy import Policy, Way

URL = "https://git.example/a/b.git"
PUBLIC = "93.184.216.34"


class Names:
    """A resolver that answers every name with the same addresses, and remembers who was asked for."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    def __call__(self, host: str, _port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.addresses


def for_url(url: str = URL, private: Sequence[str] = (), *addresses: str) -> Policy:
    return Policy.for_url(url, private, lookup=Names(*(addresses or (PUBLIC,))))


def for_hosts(*hosts: str, addresses: Sequence[str] = (PUBLIC,), learning: bool = False) -> Policy:
    return Policy.for_hosts(hosts, lookup=Names(*addresses), learning=learning)


def refused(ask: Callable[[], object]) -> EgressRule:
    with pytest.raises(Denied) as denied:
        ask()
    return denied.value.rule


DENIED = [
    "0.0.0.1", "127.0.0.1", "127.8.9.10", "169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192",
    "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "ff02::1", "fd00:ec2::254",
    "fd20:ce::254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:1::1", "::ffff:127.0.0.1",
    "::ffff:8.8.8.8", "::7f00:1", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "198.18.0.1",
    "fc00::1", "fd12:3456::1", "fec0::1",
]  # fmt: skip


@pytest.mark.parametrize("address", DENIED)
def test_an_address_that_is_not_public_is_denied_whatever_its_name(address: str) -> None:
    for policy in (for_url(URL, (), address), for_hosts("git.example", addresses=[address])):
        with pytest.raises(Denied, match=r"git\.example leads to .*, which is not a public address") as denied:
            policy.resolve("git.example", 443)
        assert denied.value.rule is EgressRule.ADDRESS


@pytest.mark.parametrize("address", [PUBLIC, "172.32.0.1", "100.128.0.1", "169.253.1.1", "2606:2800:220::1"])
def test_a_public_address_may_be_dialled(address: str) -> None:
    assert for_url(URL, (), address).resolve("git.example", 443) == [(address, 443)]


def test_one_bad_address_among_good_ones_denies_the_name() -> None:
    assert refused(lambda: for_url(URL, (), PUBLIC, "10.0.0.1").resolve("git.example", 443)) is EgressRule.ADDRESS


def test_a_name_is_resolved_once_and_what_was_checked_is_what_is_dialled() -> None:
    names = Names(PUBLIC, "2606:2800:220::1")
    policy = Policy.for_url(URL, (), lookup=names)
    assert policy.resolve("GIT.example.", 443) == [(PUBLIC, 443), ("2606:2800:220::1", 443)]
    assert names.asked == ["git.example"]


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("git.example", 80), ("git.example", 22), ("git.example", 444), ("other.example", 443),
        ("git.example.evil.test", 443), ("evilgit.example", 443), ("sub.git.example", 443), ("example", 443),
        ("git.example..", 443), ("127.0.0.1", 443), ("", 443),
    ],
)  # fmt: skip
def test_only_the_repository_s_exact_host_and_port_are_allowed(host: str, port: int) -> None:
    names = Names(PUBLIC)
    with pytest.raises(Denied, match=r"only the repository's own host \(git\.example:443\)"):
        Policy.for_url(URL, (), lookup=names).resolve(host, port)
    assert names.asked == []


@pytest.mark.parametrize(
    ("url", "ways"),
    [
        ("https://Git.Example/a", {("git.example", 443): Way.TLS}),
        ("https://user:pw@git.example./a", {("git.example", 443): Way.TLS}),
        ("https://git.example:8443/a", {("git.example", 8443): Way.TLS}),
        ("http://git.example/a", {("git.example", 80): Way.PLAIN, ("git.example", 443): Way.TLS}),
        ("http://git.example:8080/a", {("git.example", 8080): Way.PLAIN}),
        ("https://[2606:2800:220::1]/a", {("2606:2800:220::1", 443): Way.TLS}),
        ("ssh://git@git.example/a", {("git.example", 22): Way.ANY}),
        ("ssh://git@git.example:2222/a", {("git.example", 2222): Way.ANY}),
        ("git@Git.example:a/b.git", {("git.example", 22): Way.ANY}),
    ],
)
def test_the_way_to_a_repository_is_its_host_and_port_in_its_protocol(
    url: str, ways: dict[tuple[str, int], Way]
) -> None:
    policy = Policy.for_url(url, ())
    assert {(entry.host, port): way for entry in policy.entries for port, way in entry.ways} == ways
    assert {place: policy.admit(*place) for place in ways} == ways


@pytest.mark.parametrize("spelling", ["2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "0", "localhost"])
def test_a_loopback_address_in_another_spelling_is_denied_by_what_it_resolves_to(spelling: str) -> None:
    # The system's own resolver: it takes all of these for addresses, as a client would.
    with pytest.raises(Denied, match="which is not a public address"):
        Policy.for_url(f"https://{spelling}/a", ()).resolve(spelling, 443)


ALLOWED = ("api.example.com", "*.cdn.example.com", "git.example.com:8443", "*.wide.example.com:22", "deep.example.com")


@pytest.mark.parametrize(
    ("host", "port", "way"),
    [
        ("api.example.com", 443, Way.TLS),
        ("api.example.com", 80, Way.PLAIN),
        ("API.Example.COM.", 443, Way.TLS),
        ("a.cdn.example.com", 443, Way.TLS),
        ("a.b.c.cdn.example.com", 80, Way.PLAIN),
        ("git.example.com", 8443, Way.ANY),
        ("x.wide.example.com", 22, Way.ANY),
    ],
)
def test_an_allowed_host_may_be_reached_on_its_ports(host: str, port: int, way: Way) -> None:
    assert for_hosts(*ALLOWED).admit(host, port) is way


@pytest.mark.parametrize(
    ("host", "port", "rule"),
    [
        ("example.com", 443, "not_allowed"), ("com", 443, "syntax"), ("evil.test", 443, "not_allowed"),
        ("api.example.com.evil.test", 443, "not_allowed"), ("evilapi.example.com", 443, "not_allowed"),
        ("cdn.example.com", 443, "not_allowed"), ("evilcdn.example.com", 443, "not_allowed"),
        ("a.cdn.example.com.evil.test", 443, "not_allowed"), ("x.api.example.com", 443, "not_allowed"),
        ("api.example.com", 22, "port"), ("api.example.com", 8443, "port"), ("git.example.com", 443, "port"),
        ("git.example.com", 80, "port"), ("x.wide.example.com", 443, "port"), ("wide.example.com", 22, "not_allowed"),
        ("api.example.com..", 443, "syntax"), (".api.example.com", 443, "syntax"), ("api..example.com", 443, "syntax"),
        ("127.0.0.1", 443, "syntax"), ("2130706433", 443, "syntax"), ("0x7f.1", 443, "syntax"),
        ("127.1", 443, "syntax"),
        ("0177.0.0.1", 443, "syntax"), ("::1", 443, "syntax"), ("localhost", 443, "syntax"), ("", 443, "syntax"),
        ("a.cdn.example.com\0.evil.test", 443, "syntax"), ("-x.cdn.example.com", 443, "syntax"),
        ("a_b.cdn.example.com", 443, "syntax"), ("evil.test\\.cdn.example.com", 443, "syntax"),
        ("u@a.cdn.example.com", 443, "syntax"), ("évil.cdn.example.com", 443, "syntax"),
    ],
)  # fmt: skip
def test_whatever_is_not_allowed_is_denied_by_its_rule_and_never_resolved(host: str, port: int, rule: str) -> None:
    names = Names(PUBLIC)
    policy = Policy.for_hosts(ALLOWED, lookup=names)
    assert refused(lambda: policy.resolve(host, port)) == rule
    assert names.asked == []


def test_e9_an_empty_list_allows_nothing() -> None:
    for host, port in (("api.example.com", 443), ("localhost.localdomain", 80), ("a.b", 22)):
        assert refused(lambda host=host, port=port: for_hosts().resolve(host, port)) is EgressRule.NOT_ALLOWED


def test_a_denial_says_what_to_add() -> None:
    policy = for_hosts("api.example.com")
    for host, port, entry in (
        ("b.test", 443, "b.test"), ("b.test", 80, "b.test"), ("b.test", 22, "b.test:22"),
        ("api.example.com", 8443, "api.example.com:8443"),
    ):  # fmt: skip
        with pytest.raises(Denied, match=f"add {entry} to vm.allowed_hosts if the task needs it") as denied:
            policy.admit(host, port)
        assert str(denied.value).startswith(f"{host}:{port} may not be reached: vm.allowed_hosts ")


def test_where_a_profile_learns_every_public_host_passes_and_nothing_else() -> None:
    policy = for_hosts("api.example.com:8443", learning=True)
    assert policy.admit("anything.test", 443) is Way.TLS
    assert policy.admit("anything.test", 80) is Way.PLAIN
    assert policy.admit("anything.test", 22) is policy.admit("api.example.com", 8443) is Way.ANY
    assert policy.resolve("anything.test", 22) == [(PUBLIC, 22)]
    assert refused(lambda: policy.admit("127.0.0.1", 443)) is EgressRule.SYNTAX
    inside = for_hosts(learning=True, addresses=["10.0.0.1"])
    assert refused(lambda: inside.resolve("anything.test", 443)) is EgressRule.ADDRESS


def test_a_private_range_that_the_operator_allows_is_allowed_and_nothing_beside_it() -> None:
    private = ["10.1.0.0/16", "fd12:3456::/32", "192.168.7.9/24"]
    for address in ("10.1.2.3", "fd12:3456::1", "192.168.7.1"):
        assert for_url(URL, private, address).resolve("git.example", 443) == [(address, 443)]
    for address in ("10.2.0.1", "fd12:3457::1", "192.168.8.1", "127.0.0.1", "169.254.169.254"):
        policy = for_url(URL, private, address)
        assert refused(lambda policy=policy: policy.resolve("git.example", 443)) is EgressRule.ADDRESS


@pytest.mark.parametrize("wide", ["0.0.0.0/0", "100.0.0.0/8", "128.0.0.0/1"])
def test_a_wide_range_opens_no_metadata_service_and_no_loopback(wide: str) -> None:
    allowed = [ipaddress.ip_network(wide)]
    always = ("127.0.0.1", "169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "255.255.255.255")
    for address in always:
        assert fault_of(ipaddress.ip_address(address), allowed) == "which is not a public address"


def test_what_is_always_denied_is_opened_by_a_range_within_it_only() -> None:
    loopback = ipaddress.ip_address("127.0.0.1")
    for named in ("127.0.0.0/8", "127.0.0.1/32"):
        assert fault_of(loopback, [ipaddress.ip_network(named)]) is None
    assert fault_of(loopback, [ipaddress.ip_network("126.0.0.0/7")]) == "which is not a public address"


def test_the_machine_s_own_addresses_are_known() -> None:
    assert is_own_address(ipaddress.ip_address("127.0.0.1"))
    assert not is_own_address(ipaddress.ip_address("192.0.2.1"))
    assert not is_own_address(ipaddress.ip_address("2001:db8::1"))


def test_an_address_that_is_the_worker_s_own_is_denied_unless_it_is_named_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestrator.addresses.is_own_address", lambda _: True)
    for private in ((), ("93.184.216.0/24",), ("93.0.0.0/8",)):
        with pytest.raises(Denied, match="which is the host's own"):
            for_url(URL, private).resolve("git.example", 443)
    assert for_url(URL, ["93.184.216.34/32"]).resolve("git.example", 443)


def test_a_name_without_an_address_is_no_denial(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nothing)
    with pytest.raises(socket.gaierror):
        Policy.for_url(URL, ()).resolve("git.example", 443)


def test_the_system_s_resolver_gives_each_address_once() -> None:
    assert list(system_lookup("127.0.0.1", 80)) == ["127.0.0.1"]
