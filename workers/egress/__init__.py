"""The way out of a sandbox that has no network: a listener inside its network namespace that passes on connections
to named hosts only (isolation-and-faults.md §1, docs/network.md).

`policy` decides where to, `client_hello` and `request` read strictly what is said, `connection` serves one
connection, `listener` accepts them on a socket that `namespace` makes inside the sandbox. Who is told: `report`.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from orchestrator.contacts import UNREADABLE, EgressRule
from workers.egress.connection import Connection
from workers.egress.denial import Denied
from workers.egress.listener import MAX_CONNECTIONS, Listener
from workers.egress.namespace import EgressUnavailable, listen_inside
from workers.egress.policy import Policy
from workers.egress.report import EgressReport, Report

__all__ = [
    "Denied",
    "EgressReport",
    "EgressUnavailable",
    "Listener",
    "Policy",
    "Report",
    "listen_inside",
    "listener",
    "proxy",
]


class Opening(Protocol):
    """Where a listener is to be; `workers.network.entry` knows them."""

    def open(self) -> list[socket.socket]:
        """Return the listening sockets. Raises `EgressUnavailable`, and what the backend raises."""

    def close(self) -> None:
        """Remove what else was made for it."""


def proxy(server: socket.socket, policy: Policy, report: Report) -> Listener:
    """Serve the proxy on a listening socket (TCP or Unix), until it is closed."""

    def on_busy() -> None:
        why = f"the sandbox has {MAX_CONNECTIONS} connections at once"
        report.on_denied(UNREADABLE, 0, Denied(EgressRule.BUSY, why, "close some, or open fewer"))

    return Listener(server, lambda client: Connection(client, policy, report), on_busy)


@contextmanager
def listener(opening: Opening, policy: Policy, report: EgressReport | None = None) -> Iterator[EgressReport]:
    """Serve the proxy in one sandbox. Raises `EgressUnavailable`, and what the backend raises."""
    told = report or EgressReport()
    try:
        [server] = opening.open()
        serving = proxy(server, policy, told)
        try:
            yield told
        finally:
            serving.close()
    finally:
        opening.close()
