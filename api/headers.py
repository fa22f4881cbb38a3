"""Headers that every answer carries, unless its view said otherwise: what a browser may make of it."""

from __future__ import annotations

import time

from flask import Response, g, request

from api.limits import Standing
from api.scopes import rule_of

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
"""An answer of the API loads nothing, is shown in no frame, and tells no other site where it was."""


def add(response: Response) -> None:
    """Add what is missing, and how the caller stands with its rate limit."""
    for name, value in SECURITY.items():
        response.headers.setdefault(name, value)
    if request.url_rule is not None and not rule_of(request.endpoint).is_open:
        response.headers.setdefault("Cache-Control", "no-store")  # it is for this caller alone
    standing: Standing | None = g.get("standing")
    if standing is not None:
        for name, value in standing.headers(time.time()).items():
            response.headers.setdefault(name, value)
