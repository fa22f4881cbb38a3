"""URLs of webhooks taken apart."""

from __future__ import annotations

import pytest

from orchestrator.webhooks.receiver import Receiver, receiver_of


@pytest.mark.parametrize(
    ("url", "receiver", "authority"),
    [
        ("https://hooks.example.org", Receiver("https", "hooks.example.org", 443, "/"), "hooks.example.org"),
        ("HTTPS://Hooks.Example.ORG./a", Receiver("https", "hooks.example.org", 443, "/a"), "hooks.example.org"),
        ("http://h_1:8080/a/b?x=1&y=%20", Receiver("http", "h_1", 8080, "/a/b?x=1&y=%20"), "h_1:8080"),
        ("https://203.0.113.7:443/", Receiver("https", "203.0.113.7", 443, "/"), "203.0.113.7"),
        ("http://[2001:DB8:0::7]:81?q", Receiver("http", "2001:db8::7", 81, "/?q"), "[2001:db8::7]:81"),
    ],
)
def test_a_url_is_taken_apart_as_it_is_dialled_and_named_in_the_request(
    url: str, receiver: Receiver, authority: str
) -> None:
    found = receiver_of(url)
    assert found == receiver
    assert found.authority == authority


def test_only_a_url_that_names_an_address_has_one() -> None:
    addresses = [receiver_of(f"http://{host}/").address for host in ("203.0.113.7", "[2001:db8::7]", "a.localhost")]
    assert [str(one) for one in addresses] == ["203.0.113.7", "2001:db8::7", "127.0.0.1"]
    assert receiver_of("http://localhost.example.org/").address is None


@pytest.mark.parametrize("url", ["https://" + "a" * 2000, f"https://{'a.' * 140}org/", f"https://{'a' * 64}.org/"])
def test_what_no_resolver_would_take_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="; "):
        receiver_of(url)
