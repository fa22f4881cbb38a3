"""The host's packet filter, by the programs `iptables` and `ip6tables`."""

from __future__ import annotations

import subprocess
from pathlib import Path

from workers.network.plan import TABLE, Plan, missing_in, ours, removal_text, restore_text

TIMEOUT_SECONDS = 30
LOCK_SECONDS = 10
"""Another program may hold the filter's lock: the engine, for each container it connects."""
IPV6 = Path("/proc/sys/net/ipv6")
PROGRAMS = {4: "iptables", 6: "ip6tables"}


class FilterUnusable(Exception):
    """The packet filter cannot be read or changed here; the message says why."""


class PacketFilter:
    """Keeps the rules of one plan. What it made it knows again exactly, in their order; used under its owner's lock."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._made: dict[int, tuple[str, ...]] = {}

    @property
    def made(self) -> bool:
        """Tell whether this process made the rules."""
        return bool(self._made)

    def make(self) -> None:
        """Put the rules in place, first of all, whatever is there. One step each for IPv4 and IPv6.

        Raises `FilterUnusable`.
        """
        for version in _versions():
            _restore(version, restore_text(self._plan, version, _listed(version)))
            self._made[version] = ours(self._plan, _listed(version))

    def fault(self) -> str | None:
        """What of the rules is not in place; None when all are. Raises `FilterUnusable`."""
        for version in _versions():
            listed = _listed(version)
            found = missing_in(self._plan, version, listed)
            if found is None and version in self._made and ours(self._plan, listed) != self._made[version]:
                found = f"{self._plan.chain} was changed"
            if found is not None:
                return f"{PROGRAMS[version]} --table {TABLE}: {found}"
        return None

    def remove(self) -> None:
        """Take the rules away; harmless when there are none. Raises `FilterUnusable`."""
        self._made.clear()
        for version in _versions():
            text = removal_text(self._plan, _listed(version))
            if text:
                _restore(version, text)


def _versions() -> tuple[int, ...]:
    """Without IPv6 in the kernel there is nothing to close, and `ip6tables` fails."""
    return (4, 6) if IPV6.is_dir() else (4,)


def _listed(version: int) -> str:
    return _run([PROGRAMS[version], f"--wait={LOCK_SECONDS}", "--table", TABLE, "--list-rules"])


def _restore(version: int, text: str) -> None:
    _run([f"{PROGRAMS[version]}-restore", f"--wait={LOCK_SECONDS}", "--noflush"], text)


def _run(argv: list[str], text: str = "") -> str:
    try:
        done = subprocess.run(
            argv, input=text, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS, errors="replace"
        )
    except FileNotFoundError as error:
        raise FilterUnusable(f"there is no program {argv[0]}; install the package iptables") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise FilterUnusable(f"{argv[0]} could not be run: {error}") from error
    if done.returncode != 0:
        why = " ".join(done.stderr.split())[:300] or f"exit code {done.returncode}"
        raise FilterUnusable(f"{argv[0]} failed: {why}; the worker must run as root on the engine's host")
    return done.stdout
