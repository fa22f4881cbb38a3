"""Which addresses may be dialled for a name that somebody else chose (isolation-and-faults.md §1.2).

`is_global` is not enough: it is true for two clouds' metadata services and for IPv6 spellings of IPv4.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence

from orchestrator import host_addresses
from orchestrator.host_addresses import Address, Network

Lookup = Callable[[str, int], Sequence[str]]
"""Name and port → addresses. Raises `OSError` when the name has none now."""

ALWAYS_DENIED: tuple[Network, ...] = tuple(
    ipaddress.ip_network(one)
    for one in (
        "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "100.100.100.200/32", "168.63.129.16/32",
        "192.0.0.0/24", "::/96", "fe80::/10", "ff00::/8", "fd00:ec2::/32", "fd20:ce::254/128",
        "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::ffff:0:0/96", "::ffff:0:0:0/96",
    )
)  # fmt: skip
"""Loopback, unspecified, link-local, multicast, reserved, metadata services, and IPv6 spellings of IPv4."""
PRIVATE: tuple[Network, ...] = tuple(
    ipaddress.ip_network(one)
    for one in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15", "fc00::/7", "fec0::/10",
    )
)  # fmt: skip


class ForbiddenAddress(Exception):
    """A name leads to an address that may not be dialled."""

    def __init__(self, name: str, address: str, fault: str) -> None:
        super().__init__(f"{name} leads to {address}, {fault}")


def resolved(name: str, port: int, allowed: Sequence[Network], lookup: Lookup) -> list[str]:
    """The addresses to dial for a name: asked once, all of them judged, to be used as they are.

    Raises `ForbiddenAddress` when one of them may not be dialled, `OSError` when the name has none now.
    """
    found = list(lookup(name, port))
    for address in found:
        fault = fault_of(ipaddress.ip_address(address), allowed)
        if fault:
            raise ForbiddenAddress(name, address, fault)
    if not found:
        raise OSError(f"{name} has no address")
    return found


def system_lookup(host: str, port: int) -> Sequence[str]:
    """Ask the host's resolver once."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # an empty label, or one of more than 63 characters
        raise socket.gaierror(socket.EAI_NONAME, "it is no host name") from error
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def fault_of(address: Address, allowed: Sequence[Network]) -> str | None:
    """Say why an address may not be dialled; None when it may. `allowed` are the operator's ranges.

    A wide range opens private addresses only: what is always denied must be named by a range within it, an address
    of this host by itself. `10.0.0.0/8` must not open the services of this host to who chose the name.
    """
    naming = [one for one in allowed if address in one]
    for denied in ALWAYS_DENIED:
        if address in denied:
            return None if any(_within(one, denied) for one in naming) else "which is not a public address"
    if is_own_address(address) and not any(one.num_addresses == 1 for one in naming):
        return "which is the host's own"
    if any(address in one for one in PRIVATE) and not naming:
        return "which is not a public address"
    return None


def _within(inner: Network, outer: Network) -> bool:
    if isinstance(inner, ipaddress.IPv4Network):
        return isinstance(outer, ipaddress.IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, ipaddress.IPv6Network) and inner.subnet_of(outer)


def is_own_address(address: Address) -> bool:
    """True for an address of this host: only to such a one can a socket be bound, or the host names it as its own."""
    return _can_be_bound(address) or host_addresses.THE_HOST.covers(address)


def _can_be_bound(address: Address) -> bool:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
