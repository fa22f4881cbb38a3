"""The URL of a webhook: what it may look like, and what can be said about it before anybody is asked for an address.

A name may lead elsewhere at any time, so names are judged at each try (`sending`); a literal address never changes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from orchestrator.addresses import fault_of
from orchestrator.host_addresses import Address, Network

MAX_URL = 2000
"""Characters."""
PORTS = {"https": 443, "http": 80}
ADVICE = "the operator allows ranges with SANDBOX_WEBHOOK_PRIVATE_CIDRS (docs/webhooks.md)"

_PRINTABLE = re.compile(r"[\x21-\x7e]*")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}", re.ASCII)
_NUMERIC = re.compile(r"(?:.*\.)?(?:0x[0-9a-f]*|[0-9]+)", re.ASCII)
_LOCALHOST = ipaddress.ip_address("127.0.0.1")


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where a webhook is sent to. `host` is a name in lower case or an address; `target`: path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def address(self) -> Address | None:
        """The address, where the URL names one and not a name."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return _LOCALHOST
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def authority(self) -> str:
        """As the `Host` header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def receiver_of(url: str) -> Receiver:
    """Take a URL apart. Raises `ValueError` with why it is none and what to do."""
    if len(url) > MAX_URL:
        raise ValueError(f"it has more than {MAX_URL:,} characters; shorten it")
    if not _PRINTABLE.fullmatch(url) or "\\" in url:
        raise ValueError(
            "it holds a space, a control character, a backslash or a letter beyond ASCII; percent-encode it"
        )
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
    except ValueError as error:
        raise ValueError(f"it cannot be taken apart ({error}); correct it") from None
    if parts.scheme not in PORTS:
        raise ValueError("it begins with neither https:// nor http://; events are sent by these only")
    if "@" in parts.netloc:
        raise ValueError("it holds a user or a password; take them out: a signing secret shows who sends")
    if "#" in url:
        raise ValueError("it holds a fragment (#…), which is never sent; take it out")
    if port == 0:
        raise ValueError("it names port 0, which is none; correct it")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Receiver(parts.scheme, _host(host), port or PORTS[parts.scheme], target)


def _host(written: str) -> str:
    host = written.lower().removesuffix(".")
    if ":" in host or _NUMERIC.fullmatch(host):
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            raise _no_host("an address in no usual spelling, if it is one") from None
        if "%" in host:
            raise _no_host("an address of one link only")
        return str(address)
    if len(host) > 253 or not _NAME.fullmatch(host):
        raise _no_host("no host name")
    return host


def _no_host(what: str) -> ValueError:
    return ValueError(f"its host is {what}; write a name such as hooks.example.org, or an address as 203.0.113.7")


def literal_fault(receiver: Receiver, allowed: Sequence[Network]) -> str | None:
    """Why a URL that names an address is refused at once; None where it names none, or one that may be dialled."""
    address = receiver.address
    fault = fault_of(address, allowed) if address is not None else None
    return f"it leads to {address}, {fault}; {ADVICE}" if fault else None
