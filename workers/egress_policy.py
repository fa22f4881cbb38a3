"""Where a sandbox may connect to, and why not elsewhere (isolation-and-faults.md §1.2)."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_PORTS = {"https": 443, "http": 80}

ALWAYS_DENIED = tuple(
    ipaddress.ip_network(one)
    for one in (
        "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "100.100.100.200/32", "168.63.129.16/32",
        "192.0.0.0/24", "::/128", "::1/128", "fe80::/10", "ff00::/8", "fd00:ec2::/32", "fd20:ce::254/128",
        "64:ff9b::/96", "2002::/16", "2001::/32", "::ffff:0:0/96",
    )
)  # fmt: skip
"""Loopback, link-local, multicast, metadata services, and IPv6 spellings of IPv4. `is_global` is not enough."""
PRIVATE = tuple(
    ipaddress.ip_network(one) for one in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)


class Denied(Exception):
    """A connection that the policy does not allow; the message says why."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Where a sandbox may connect to: exact hosts with their ports, and private ranges the operator allows."""

    hosts: frozenset[tuple[str, int]]
    allowed_private: tuple[Network, ...] = ()

    @classmethod
    def for_url(cls, url: str, private_cidrs: Sequence[str]) -> Policy:
        """The way to one repository: its host and port. One given as `http://` mostly redirects to https."""
        parts = urlsplit(url)
        host, port = canonical(parts.hostname or ""), parts.port or DEFAULT_PORTS[parts.scheme]
        ports = {port, 443} if port == DEFAULT_PORTS["http"] else {port}
        networks = tuple(ipaddress.ip_network(one, strict=False) for one in private_cidrs)
        return cls(frozenset((host, one) for one in ports), networks)

    def resolve(self, host: str, port: int) -> list[tuple[str, int]]:
        """Return what to dial: resolved once, all of it checked, to be used as checked.

        Raises `Denied`, and `OSError` when the name has no address now.
        """
        host = canonical(host)
        if (host, port) not in self.hosts:
            allowed = ", ".join(f"{name}:{number}" for name, number in sorted(self.hosts))
            raise Denied(f"{host}:{port} may not be reached, only the repository's own host ({allowed})")
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        for address in addresses:
            fault = self._fault(ipaddress.ip_address(address))
            if fault:
                raise Denied(f"{host} leads to {address}, {fault}; an operator allows SANDBOX_EGRESS_PRIVATE_CIDRS")
        return [(address, port) for address in addresses]

    def _fault(self, address: Address) -> str | None:
        if any(address in network for network in self.allowed_private):
            return None
        if any(address in network for network in ALWAYS_DENIED + PRIVATE):
            return "which is not a public address"
        return "which is the worker's own" if is_own_address(address) else None


def canonical(host: str) -> str:
    """The one spelling that is compared and dialled: lower case, without a closing dot."""
    return host.removesuffix(".").lower()


def is_own_address(address: Address) -> bool:
    """True for an address of this host: only to such a one can a socket be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
