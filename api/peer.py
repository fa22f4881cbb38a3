"""Where a request comes from: the other end of the connection, or who stands behind a proxy the operator trusts."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]

_OF_A_PROXY = frozenset(
    {
        "forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip", "cdn-loop",
        "x-original-forwarded-for", "x-envoy-external-address",
    }
)  # fmt: skip
_PREFIX_OF_A_PROXY = "x-forwarded-"
SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True)
class Peer:
    """Who sent a request. `relayed`: a proxy did that we know nothing of, so the address is the proxy's alone."""

    address: str
    scheme: str
    relayed: bool

    @property
    def is_local(self) -> bool:
        """True when it is this machine, as far as can be told."""
        address = _address(self.address)
        return address is not None and address.is_loopback and not self.relayed

    @property
    def network(self) -> str:
        """What failures are counted by: the address; of IPv6 the /64, which one host has for itself."""
        address = _address(self.address)
        if isinstance(address, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((address, 64), strict=False))
        return self.address


def networks(named: Iterable[str]) -> Networks:
    return tuple(ipaddress.ip_network(one) for one in named)


def peer_of(connected: str | None, scheme: str, headers: Mapping[str, str], trusted: Networks) -> Peer:
    """The peer of a request. `connected`: the other end of its connection, `trusted`: the proxies to believe.

    A proxy adds who connected to it at the right end of X-Forwarded-For, so that list is read from there, up to the
    first address that is no proxy of ours: what stands to the left of it anybody may have written.
    """
    address = _address(connected or "")
    relayed = any(map(_is_a_proxys, headers.keys()))
    if address is None or not _is_in(address, trusted):
        return Peer(str(address or connected or "unknown"), scheme, relayed)
    hops = [hop.strip() for hop in headers.get("X-Forwarded-For", "").split(",") if hop.strip()]
    told = headers.get("X-Forwarded-Proto", "").strip().lower()
    scheme = told if told in SCHEMES else scheme
    for hop in reversed(hops):
        before = _address(hop)
        if before is None:  # nobody's address: whoever it was is behind this proxy, and not this machine
            return Peer(str(address), scheme, relayed=True)
        address = before
        if not _is_in(address, trusted):
            break
    return Peer(str(address), scheme, relayed=relayed and not hops)


def _is_a_proxys(header: str) -> bool:
    return header.lower() in _OF_A_PROXY or header.lower().startswith(_PREFIX_OF_A_PROXY)


def _is_in(address: Address, found: Networks) -> bool:
    return any(address in network for network in found)  # false for a network of the other version


def _address(text: str) -> Address | None:
    """The address in a text, with or without a port; one of IPv4 written as IPv6 is what it is."""
    bare = text.strip()
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        found = ipaddress.ip_address(bare)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
