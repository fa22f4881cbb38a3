"""Has the other end of a connection been closed? Where there is nothing to send to it, no write would tell."""

from __future__ import annotations

import select
import socket


def has_hung_up(connection: socket.socket | None) -> bool:
    """True when the reader has closed its end; false where the connection is not known.

    The kernel is asked: what TLS has still to say may wait to be read, so reading would not tell.
    """
    if connection is None:
        return False
    if connection.fileno() < 0:
        return True
    poller = select.poll()
    poller.register(connection, select.POLLRDHUP)
    return bool(poller.poll(0))
