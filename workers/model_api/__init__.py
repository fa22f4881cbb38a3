"""The way from a sandbox to the model API: a relay on the sandbox's loopback that adds the operator's key, lets only
the API's calls through, and counts what they use (docs/model.md).

`request` reads strictly what a sandbox asks, `connection` serves one connection of it, `upstream` speaks with the API,
`access` is what opens that. `usage` reads what an answer cost, `meter` counts it by `prices` and keeps the budget.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

from workers.egress.listener import Listener
from workers.model_api.access import Access
from workers.model_api.connection import ModelConnection
from workers.model_api.meter import Meter

__all__ = ["relay"]

log = logging.getLogger(__name__)


def relay(server: socket.socket, access: Callable[[], Access], meter: Meter) -> Listener:
    """Serve the model API on a listening socket (TCP or Unix), until it is closed.

    `access` is asked before each request; it raises `ModelKeyUnavailable`.
    """

    def on_busy() -> None:
        log.debug("a sandbox has too many connections to the model API at once")

    return Listener(server, lambda client: ModelConnection(client, access, meter), on_busy)
