from __future__ import annotations

import pytest

from api.peer import networks, peer_of

PROXIES = networks(["10.0.0.0/8", "2001:db8:1::/48"])


def test_without_trusted_proxies_it_is_the_other_end_whatever_a_header_says() -> None:
    peer = peer_of("203.0.113.9", "http", {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https"}, ())
    assert (peer.address, peer.scheme, peer.relayed, peer.is_local) == ("203.0.113.9", "http", True, False)


@pytest.mark.parametrize(
    ("told", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("127.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1, 203.0.113.9, 10.2.2.2", "203.0.113.9"),
        ("10.2.2.2, 10.3.3.3", "10.2.2.2"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("[2001:db8:2::1]:4711", "2001:db8:2::1"),
        ("2001:db8:2::1", "2001:db8:2::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        (" , 203.0.113.9 ,", "203.0.113.9"),
    ],
)
def test_the_first_address_from_the_right_that_is_no_proxy_of_ours(told: str, address: str) -> None:
    peer = peer_of("10.1.1.1", "http", {"X-Forwarded-For": told}, PROXIES)
    assert (peer.address, peer.relayed, peer.is_local) == (address, False, False)


@pytest.mark.parametrize("told", ["unknown", "127.0.0.1, unknown", "", ",", "a" * 9000, "999.1.1.1", "_hidden"])
def test_what_is_no_address_is_never_this_machine(told: str) -> None:
    peer = peer_of("127.0.0.1", "http", {"X-Forwarded-For": told}, networks(["127.0.0.0/8"]))
    assert (peer.address, peer.relayed, peer.is_local) == ("127.0.0.1", True, False)


def test_a_proxy_on_this_machine_may_pass_on_what_this_machine_asked() -> None:
    peer = peer_of("127.0.0.1", "http", {"X-Forwarded-For": "127.0.0.1"}, networks(["127.0.0.0/8"]))
    assert peer.is_local


@pytest.mark.parametrize("address", ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"])
def test_loopback_in_any_spelling_is_this_machine(address: str) -> None:
    assert peer_of(address, "http", {}, ()).is_local


@pytest.mark.parametrize("connected", [None, "", "unix:", "@"])
def test_an_end_without_an_address_is_not_this_machine(connected: str | None) -> None:
    assert not peer_of(connected, "http", {}, ()).is_local


@pytest.mark.parametrize(
    "header",
    [
        "X-Real-IP", "Via", "CF-Connecting-IP", "True-Client-IP", "X-Client-IP", "X-Original-Forwarded-For",
        "X-Envoy-External-Address", "CDN-Loop", "X-Forwarded-Port",
    ],
)  # fmt: skip
def test_what_carries_a_proxys_header_is_not_this_machine(header: str) -> None:
    for spelling in (header, header.lower()):
        assert not peer_of("127.0.0.1", "http", {spelling: "x"}, ()).is_local


def test_the_scheme_is_believed_from_a_trusted_proxy_alone() -> None:
    headers = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "HTTPS"}
    assert peer_of("10.1.1.1", "http", headers, PROXIES).scheme == "https"
    assert peer_of("10.1.1.1", "http", {**headers, "X-Forwarded-Proto": "javascript"}, PROXIES).scheme == "http"
    assert peer_of("192.0.2.1", "http", headers, PROXIES).scheme == "http"


def test_failures_of_one_ipv6_host_are_counted_together() -> None:
    first, second = (peer_of(f"2001:db8:2::{n}", "http", {}, ()).network for n in (1, 2))
    assert first == second == "2001:db8:2::/64"
    assert peer_of("203.0.113.9", "http", {}, ()).network == "203.0.113.9"
