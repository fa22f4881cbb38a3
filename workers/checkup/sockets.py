"""Services of ours on this machine that other machines reach."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.services.tokens import NoToken, check_host
from orchestrator.settings import Settings
from orchestrator.store.database import StoreUnavailable
from workers.finding import Finding, note, ok, problem

_LISTENING = "0A"
_EVERYWHERE = "0.0.0.0"  # noqa: S104 - asked about, not listened on
_DEFAULT_PORTS = {"postgresql": 5432, "postgres": 5432, "amqp": 5672, "amqps": 5671, "pyamqp": 5672, "redis": 6379,
                  "rediss": 6379}  # fmt: skip
ROLES = {
    "store": "who can write to it decides what runs on every worker",
    "broker": "who can write to it can flood every worker with messages",
}
"""What stands on it, by who listens there."""


def listening(settings: Settings) -> Iterator[Finding]:
    open_ports = {port for address, port in listeners() if not address.is_loopback}
    yield _api(settings, open_ports)
    for subject, url in (("store", settings.store_url), ("broker", settings.broker_url)):
        port = _local_port(url)
        if port in open_ports:
            seen = f"port {port} of this machine is open to the network: {ROLES[subject]}"
            advice = "let it listen on loopback or a private network only, with a password, behind a firewall"
            yield note(f"{subject} port", seen, advice)


def _api(settings: Settings, open_ports: Collection[int]) -> Finding:
    """What listens counts for more than the settings: these may be doctor's alone."""
    ports = [port for port in (settings.port, settings.stream_port) if port in open_ports]
    where = f"listens on {settings.host}:{settings.port}"
    if ports:
        where = f"port {' and '.join(map(str, ports))} of this machine is open to the network"
    elif settings.is_local:
        return ok("api", f"{where}: only this machine reaches it")
    try:
        check_host(replace(settings, host=_EVERYWHERE, allow_open=False))
    except NoToken:
        advice = (
            "anybody who reaches it can run code here: make one (`sandbox token create`), see docs/access.md; if the "
            "API has other settings than doctor, run doctor with those"
        )
        return problem("api", f"{where} without an access token in the store of these settings", advice)
    except (StoreUnavailable, ValueError):
        return note("api", f"{where}; whether it asks for access tokens is not known", "see what is said of the store")
    if settings.tls_cert is None:
        advice = "set SANDBOX_TLS_CERT and SANDBOX_TLS_KEY, or let a proxy on this machine do TLS, see docs/access.md"
        return note("api", f"{where} with access tokens, which travel in clear", advice)
    return ok("api", f"{where} with access tokens and TLS")


def _local_port(url: str) -> int | None:
    """The port of a server that runs on this machine; None for another machine's, and for files."""
    parts = urlsplit(url)
    default = _DEFAULT_PORTS.get(parts.scheme.partition("+")[0])
    if default is None or not parts.hostname:
        return None
    return (parts.port or default) if _is_here(parts.hostname) else None


def _is_here(host: str) -> bool:
    """Tell whether a name leads to an address of this machine: only such a one can be bound."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return any(_binds(family, address) for family, _, _, _, address in found)


def _binds(family: int, address: tuple[object, ...]) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(address)
        except OSError:
            return False
    return True


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def listeners() -> list[tuple[Address, int]]:
    """Address and port of everything that listens on this machine, as far as this network namespace shows."""
    found = []
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if table.exists():  # there is none without IPv6
            found += listeners_in(table.read_text())
    return found


def listeners_in(table: str) -> list[tuple[Address, int]]:
    """Read /proc/net/tcp or tcp6: addresses are words of four bytes, each in the machine's order."""
    found: list[tuple[Address, int]] = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 3 and fields[3] == _LISTENING:
            address, _, port = fields[1].partition(":")
            raw = bytes.fromhex(address)
            words = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
            found.append((_plain(ipaddress.ip_address(words)), int(port, 16)))
    return found


def _plain(address: Address) -> Address:
    """An IPv4 address that an IPv6 socket listens on, as what it is."""
    return getattr(address, "ipv4_mapped", None) or address
