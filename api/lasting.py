"""Answers that take their time: each caller has so many at once, and none goes on once the caller lost its access."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from http import HTTPStatus

from flask import Response, g

from api import capacity
from api.access import caller, permit
from api.callers import Permit
from api.errors import Refusal
from api.parts import parts
from api.peer import Peer
from orchestrator.access import Scope

RETRY_AFTER_SECONDS = 10


def begin() -> None:
    """Take a place for the present request's answer; it is given back when the answer is closed.

    Raises `Refusal` (429) when the caller has all its places in use.
    """
    who, peer = caller(), _peer()
    is_trusted = who.token_id is None or who.may(Scope.ADMIN)
    most = capacity.MOST_TRUSTED if is_trusted else capacity.MOST_OF_ONE
    key = f"address {peer.network}" if who.token_id is None else f"token {who.token_id}"
    place = parts().callers.places.take(key, most)
    if place is None:
        whose = f"the address {peer.address}" if who.token_id is None else f"the access token {who.token_name}"
        raise Refusal(
            HTTPStatus.TOO_MANY_REQUESTS,
            "rate_limit_exceeded",
            f"{whose} has {most} logs, downloads and waiting cancellations open, as many as it may; end some of them, "
            f"or try again in {RETRY_AFTER_SECONDS} s. A cancellation with wait=0 needs none",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )
    g.place = place


def note_end(response: Response) -> Response:
    """Give the place back with the end of the answer, whether or not a byte of it was sent. For every answer."""
    if "place" in g:
        response.call_on_close(g.place.give_back)
    return response


class WhilePermitted:
    """Bytes that are sent for as long as the present caller may have them; then the connection is cut.

    A class and no generator: `close` frees what is open also when nothing was read yet.
    """

    def __init__(self, chunks: Iterator[bytes], what: str) -> None:
        self._chunks = chunks
        self._what = what
        self._allowed: Permit = permit()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._allowed.holds():
            raise ConnectionResetError(errno.ECONNRESET, f"the reader of {self._what} has lost its access")
        return next(self._chunks)

    def close(self) -> None:
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()


def _peer() -> Peer:
    peer: Peer = g.peer
    return peer
