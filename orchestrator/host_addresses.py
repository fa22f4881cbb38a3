"""The addresses of the host that a process in a container runs on: not its own, and not for others through it either.

It dials from its container's network namespace; the host's addresses are in that of the first process, which it sees
when it shares the host's process ids (`pid: host`, as the worker in compose.yaml does).
"""

from __future__ import annotations

import ipaddress
import os
import re
import threading
import time
from pathlib import Path

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

CACHED_SECONDS = 60.0
FIRST_PROCESS = Path("/proc/1")
_LOCAL = re.compile(r"\|-- (?P<address>[\d.]+)\n(?P<kinds>(?:\s+/\d+ .*\n?)+)")
_KIND = re.compile(r"/(?P<bits>\d+) host LOCAL")


class HostAddresses:
    """Reads them at most once in `CACHED_SECONDS`. Thread-safe."""

    def __init__(self, first_process: Path = FIRST_PROCESS) -> None:
        self._first_process = first_process
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._found: frozenset[Network] | None = None

    def covers(self, address: Address) -> bool:
        """True for an address of the host; False also when the host's cannot be seen."""
        return not self._is_ours() and any(address in one for one in self._networks() or ())

    def seen(self) -> bool:
        """Whether the first process's addresses are known; whether it is the host's, only the caller may know."""
        return self._is_ours() or self._networks() is not None

    def _is_ours(self) -> bool:
        """Then a probe of this process finds them all, and at once. Hidden from us: it may be another."""
        try:
            theirs = (self._first_process / "ns/net").stat()
            return os.path.samestat(theirs, Path("/proc/thread-self/ns/net").stat())
        except OSError:
            return False

    def _networks(self) -> frozenset[Network] | None:
        with self._lock:
            now = time.monotonic()
            if self._read_at is None or now >= self._read_at + CACHED_SECONDS:
                self._found, self._read_at = self._read(), now
            return self._found

    def _read(self) -> frozenset[Network] | None:
        net = self._first_process / "net"
        try:
            found = local_in((net / "fib_trie").read_text())
            ipv6 = net / "if_inet6"  # not there when the kernel has no IPv6
            return found | (addresses_in(ipv6.read_text()) if ipv6.exists() else frozenset())
        except OSError:
            return None


def local_in(fib_trie: str) -> frozenset[Network]:
    """What the kernel takes as its own in an IPv4 table (/proc/PID/net/fib_trie): addresses, sometimes ranges (pure).

    Loopback is in it, too.
    """
    return frozenset(
        ipaddress.ip_network(f"{leaf['address']}/{kind['bits']}", strict=False)
        for leaf in _LOCAL.finditer(fib_trie)
        for kind in _KIND.finditer(leaf["kinds"])
    )


def addresses_in(if_inet6: str) -> frozenset[Network]:
    """The addresses of an IPv6 table (/proc/PID/net/if_inet6: 32 hexadecimal digits begin each line) (pure)."""
    numbers = (line.split()[0] for line in if_inet6.splitlines() if line.strip())
    return frozenset(ipaddress.ip_network(int(number, 16).to_bytes(16)) for number in numbers)


THE_HOST = HostAddresses()
"""Of this process: all that judge addresses share what was read."""
