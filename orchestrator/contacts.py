"""Where a sandbox's command went, and what it was refused: words that the store, the API and the workers share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

DEFAULT_PORTS = frozenset({80, 443})
"""An entry of `vm.allowed_hosts` without a port stands for these."""
UNREADABLE = "?"
"""The host of a request that could not be read; its port is 0."""
OTHERS = "(others)"
"""Stands for all hosts beyond the number that is kept for each attempt; its port is 0."""


class EgressRule(StrEnum):
    """By which rule a connection was refused, or that it was learned (docs/network.md). Public API: never renamed."""

    NOT_ALLOWED = "not_allowed"
    PORT = "port"
    ADDRESS = "address"
    TLS = "tls"
    SNI = "sni"
    SYNTAX = "syntax"
    BUSY = "busy"
    LEARNED = "learned"


MENDED_BY_LISTING = frozenset({EgressRule.NOT_ALLOWED, EgressRule.PORT})
"""An entry in `vm.allowed_hosts` lets these through."""


@dataclass(frozen=True, slots=True)
class Contact:
    """How often one host and port was asked for by an attempt (or by a task), with the same answer."""

    host: str
    port: int
    rule: EgressRule
    passed: bool
    count: int
    first_at: datetime
    last_at: datetime

    @property
    def entry(self) -> str:
        """How `vm.allowed_hosts` names it."""
        return host_entry(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What an attempt has sent and got since it began, and the contacts of it that are to be stored."""

    bytes_up: int
    bytes_down: int
    contacts: tuple[Contact, ...]


def host_entry(host: str, port: int) -> str:
    """The entry of `vm.allowed_hosts` that lets `host` on `port` through."""
    return host if port in DEFAULT_PORTS else f"{host}:{port}"


def merged(contacts: Iterable[Contact]) -> list[Contact]:
    """One line for each host, port and answer, over all attempts; the first that was asked for comes first."""
    found: dict[tuple[str, int, EgressRule], Contact] = {}
    for one in contacts:
        key = one.host, one.port, one.rule
        before = found.get(key)
        found[key] = (
            one
            if before is None
            else replace(
                one,
                count=before.count + one.count,
                first_at=min(before.first_at, one.first_at),
                last_at=max(before.last_at, one.last_at),
            )
        )
    return sorted(found.values(), key=lambda one: (one.first_at, one.host, one.port))


def entries(contacts: Iterable[Contact]) -> list[str]:
    """The entries of `vm.allowed_hosts` that let all of them through, each once, in order."""
    return sorted({one.entry for one in contacts if one.port})


def fix(denied: Iterable[Contact]) -> str | None:
    """One line that says how to let through what was denied; None when nothing was."""
    found = merged(denied)
    if not found:
        return None
    total = sum(one.count for one in found)
    missing = entries(one for one in found if one.rule in MENDED_BY_LISTING)
    refused = f"{total} connection{'s' if total != 1 else ''} to the network {'were' if total != 1 else 'was'} denied"
    look = "`sandbox task network ID` shows all"
    if missing:
        shown = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
        return f"{refused}: add {shown} to vm.allowed_hosts if the task needs it ({look})"
    first = found[0]
    return f"{refused}, such as {first.host}:{first.port} ({first.rule}); {look} and docs/network.md explains the rules"
