"""WebSocket subprotocols: a browser's WebSocket sends no Authorization header, so a token may come among them.

`new WebSocket(url, ["sandbox.v1", "sandbox.token.sbx_…"])`: the server answers with `sandbox.v1` alone.
"""

from __future__ import annotations

from collections.abc import Iterable

PLAIN = "sandbox.v1"
_TOKEN = "sandbox.token."  # noqa: S105 - a prefix, no secret


def chosen(offered: Iterable[str]) -> str | None:
    """What the server agrees to; None when nothing is offered that it knows."""
    return PLAIN if PLAIN in offered else None


def token_in(header: str) -> str | None:
    """The access token among the subprotocols that a request offers, if there is one."""
    for one in header.split(","):
        name = one.strip()
        if name.startswith(_TOKEN):
            return name.removeprefix(_TOKEN)
    return None
