"""The syntax of hosts that a sandbox may reach (pure).

There is one spelling of a host – lower case, no trailing dot – for the check, the dial and the comparison
with the name in TLS. Numeric spellings (`2130706433`, `0x7f.1`, `[::1]`) are no hosts: resolvers read many
of them as addresses that no list names (isolation-and-faults.md §1.2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}\.)+[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?", re.ASCII)
_NUMERIC_LABEL = re.compile(r"0x[0-9a-f]*|[0-9]+", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_MAX_LENGTH = 300
_URL = re.compile(r"[a-z][a-z0-9+.-]*://(?:[^/@]*@)?([^/:?#]+)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HostRule:
    """One entry of `vm.allowed_hosts`; without a port it stands for 80 and 443."""

    host: str
    any_subdomain: bool = False
    port: int | None = None

    def __str__(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"{'*.' if self.any_subdomain else ''}{self.host}{port}"


def canonical_host(text: str) -> str:
    """Return the one spelling of the host `text`.

    Raises `ValueError` for anything but `label(.label)+` whose last label begins with a letter.
    """
    host = text.lower().removesuffix(".")
    if _HOST.fullmatch(host) and len(host) <= 253:
        return host
    raise ValueError(f"{_shown(text)} is not allowed: {_why_no_host(host)}")


def parse_host_rule(text: str) -> HostRule:
    """Return the rule that `text` (`host`, `*.host`, each with an optional `:port`) stands for.

    Raises `ValueError`, with reason and advice, for any other text.
    """
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"{_shown(text)} is not allowed: it has more than {_MAX_LENGTH} characters; shorten it")
    if text.removesuffix(".") == "*" or text.startswith("*:"):
        raise ValueError(
            f"{_shown(text)} is not allowed: it would name every host; name the hosts, or use network_mode: full"
        )
    if "://" in text or text.startswith("[") or text.count(":") > 1:
        raise ValueError(f"{_shown(text)} is not allowed: {_why_no_host(text.lower())}")
    name, colon, port_text = text.partition(":")
    if colon and not (_PORT.fullmatch(port_text) and 1 <= int(port_text) <= 65535):
        raise ValueError(
            f"{_shown(text)} is not allowed: a port is a number from 1 to 65535; write for example host.tld:443"
        )
    any_subdomain = name.startswith("*.")
    host = name.removeprefix("*.")
    if any_subdomain and "." not in host.removesuffix("."):
        raise ValueError(
            f"{_shown(text)} is not allowed: it would name every host below a top-level domain; "
            "write at least *.name.tld"
        )
    return HostRule(canonical_host(host), any_subdomain, int(port_text) if colon else None)


def host_of_url(text: str) -> str | None:
    """Return the host when `text` is a URL, to suggest it; None for anything else."""
    match = _URL.match(text[:_MAX_LENGTH])
    return match[1].lower() if match and _HOST.fullmatch(match[1].lower()) else None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:79] + "…")


def _why_no_host(text: str) -> str:
    if "://" in text:
        return "it is a URL; write the host alone"
    if text.startswith("[") or ":" in text or _NUMERIC_LABEL.fullmatch(text.rpartition(".")[2]):
        return "it is an address, and the filter compares names; write the host's name"
    if not text.isascii():
        return "a host is written in ASCII; write an international name in its xn-- form"
    if "*" in text:
        return "'*' stands for whole labels at the beginning only; write *.name.tld"
    if "." not in text:
        return "a host has at least two labels; write its full name, such as api.github.com"
    return "it is no host name (letters, digits and '-' between dots); write for example api.github.com"
