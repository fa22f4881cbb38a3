"""Where a sandbox may connect to, and why not elsewhere (isolation-and-faults.md §1.2)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from orchestrator.addresses import ForbiddenAddress, Lookup, resolved, system_lookup
from orchestrator.contacts import EgressRule, host_entry
from orchestrator.host_addresses import Network
from orchestrator.manifest.git_names import ssh_address
from orchestrator.manifest.hosts import HostRule, canonical_host, parse_host_rule
from workers.egress.denial import Denied

HTTP, HTTPS = 80, 443
DEFAULT_PORTS = {"https": HTTPS, "http": HTTP}


class Way(Enum):
    """What may be spoken on a port."""

    PLAIN = "one plain HTTP request"
    TLS = "TLS whose server name is the host's"
    ANY = "anything: nobody looks inside"


@dataclass(frozen=True, slots=True)
class Entry:
    """A host, or all below it, and the ports it may be reached on."""

    host: str
    ways: tuple[tuple[int, Way], ...]
    any_subdomain: bool = False

    @classmethod
    def of(cls, rule: HostRule) -> Entry:
        """Without a port 80 and 443; on a port that is named nobody knows what is spoken."""
        ports = (HTTP, HTTPS) if rule.port is None else (rule.port,)
        return cls(rule.host, tuple((port, way_of(port)) for port in ports), rule.any_subdomain)

    def covers(self, host: str) -> bool:
        """Compare whole labels; `*.host` is not `host` itself."""
        return host.endswith(f".{self.host}") if self.any_subdomain else host == self.host


def way_of(port: int) -> Way:
    """What the port is for, where nothing else is said."""
    return {HTTP: Way.PLAIN, HTTPS: Way.TLS}.get(port, Way.ANY)


@dataclass(frozen=True, slots=True)
class Policy:
    """Where a sandbox may connect to. Immutable; used by many threads.

    `repository`: it is the way to one repository, whose host may be written in any way. `learning`: every public
    host passes. `private` are ranges an allowed name may lead into. `lookup` is asked once for each connection.
    """

    entries: tuple[Entry, ...]
    private: tuple[Network, ...] = ()
    learning: bool = False
    repository: bool = False
    lookup: Lookup = system_lookup

    @classmethod
    def for_hosts(
        cls,
        allowed_hosts: Iterable[str],
        private_cidrs: Sequence[str] = (),
        *,
        learning: bool = False,
        lookup: Lookup = system_lookup,
    ) -> Policy:
        """The way to `vm.allowed_hosts`, which the manifest's check has let through, and to nothing else."""
        entries = tuple(Entry.of(parse_host_rule(one)) for one in allowed_hosts)
        return cls(entries, _networks(private_cidrs), learning, lookup=lookup)

    @classmethod
    def for_url(cls, url: str, private_cidrs: Sequence[str], *, lookup: Lookup = system_lookup) -> Policy:
        """The way to one repository: its host and port. One given as `http://` mostly redirects to https."""
        address = ssh_address(url)
        if address is not None:
            entry = Entry(plain_name(address[0]), ((address[1], Way.ANY),))
            return cls((entry,), _networks(private_cidrs), repository=True, lookup=lookup)
        parts = urlsplit(url)
        host, port = plain_name(parts.hostname or ""), parts.port or DEFAULT_PORTS[parts.scheme]
        ways = {port: Way.TLS if parts.scheme == "https" else Way.PLAIN}
        if port == HTTP:
            ways[HTTPS] = Way.TLS
        return cls((Entry(host, tuple(ways.items())),), _networks(private_cidrs), repository=True, lookup=lookup)

    def admit(self, host: str, port: int) -> Way:
        """Return what may be spoken to `host` on `port`. Raises `Denied`."""
        name = self.spelling(host)
        known = [entry for entry in self.entries if entry.covers(name)]
        for entry in known:
            for number, way in entry.ways:
                if number == port:
                    return way
        if self.learning:
            return way_of(port)
        raise self._refusal(name, port, known=bool(known))

    def resolve(self, host: str, port: int) -> list[tuple[str, int]]:
        """Return what to dial: resolved once, all of it checked, to be used as checked.

        Raises `Denied`, and `OSError` when the name has no address now.
        """
        self.admit(host, port)
        name = self.spelling(host)
        try:
            found = resolved(name, port, self.private, self.lookup)
        except ForbiddenAddress as error:
            advice = "an operator allows ranges with SANDBOX_EGRESS_PRIVATE_CIDRS"
            raise Denied(EgressRule.ADDRESS, str(error), advice) from None
        return [(address, port) for address in found]

    def spelling(self, host: str) -> str:
        """The one spelling that is compared, dialled and expected in TLS. Raises `Denied`."""
        if self.repository:
            return plain_name(host)
        try:
            return canonical_host(host)
        except ValueError as error:
            why, _, advice = str(error).partition("; ")
            raise Denied(EgressRule.SYNTAX, f"host {why}", advice) from None

    def _refusal(self, name: str, port: int, *, known: bool) -> Denied:
        rule = EgressRule.PORT if known else EgressRule.NOT_ALLOWED
        if self.repository:
            allowed = ", ".join(sorted(f"{one.host}:{number}" for one in self.entries for number, _ in one.ways))
            why = f"{name}:{port} may not be reached, only the repository's own host ({allowed})"
            return Denied(rule, why, "name the host that serves it in repository.url")
        listed = "names it with other ports only" if known else "does not name it"
        why = f"{name}:{port} may not be reached: vm.allowed_hosts {listed}"
        return Denied(rule, why, f"add {host_entry(name, port)} to vm.allowed_hosts if the task needs it")


def plain_name(host: str) -> str:
    """Lower case, without a closing dot."""
    return host.removesuffix(".").lower()


def _networks(cidrs: Sequence[str]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(one, strict=False) for one in cidrs)
