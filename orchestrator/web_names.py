"""Host names and origins that the operator allows: what would never match a request is refused at the start."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

_LABEL = r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_USUAL_PORTS = {"http": 80, "https": 443}
"""Browsers leave them out of an origin."""


def host_faults(setting: str, names: Iterable[str]) -> Iterator[str]:
    """What is wrong with names that a `Host` header is compared with, whatever its port."""
    for name in names:
        right = _host_in(name)
        if right != name.lower():
            yield (
                f"{setting}: {name!r} is no host name, which stands without scheme, port, path or wildcard; write "
                f"{right or 'builds.example.org'}"
            )


def origin_faults(setting: str, origins: Iterable[str]) -> Iterator[str]:
    """What is wrong with origins that an `Origin` header is compared with, to the letter."""
    for origin in origins:
        right = _origin_in(origin)
        if right != origin:
            yield (
                f"{setting}: {origin!r} is no origin as browsers send it: scheme://host[:port], in lower case, without "
                f"path, closing slash, usual port or wildcard; write {right or 'https://console.example.org'}"
            )


def _host_in(text: str) -> str | None:
    """The host name or address that is meant by a name, a name with a port, or a URL."""
    if _is_ipv6(text):
        return text.lower()
    try:
        name = (urlsplit(text if "://" in text else f"//{text}").hostname or "").rstrip(".")
    except ValueError:  # such as an unclosed bracket
        return None
    return name if _is_ipv6(name) or _HOST.fullmatch(name) else None


def _origin_in(text: str) -> str | None:
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        port = parts.port
    except ValueError:  # such as a port that is no number
        return None
    host = _host_in(parts.hostname or "")
    if host is None or not _SCHEME.fullmatch(parts.scheme) or text == "null":
        return None
    bracketed = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{bracketed}" + ("" if port in {None, _USUAL_PORTS.get(parts.scheme)} else f":{port}")


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
