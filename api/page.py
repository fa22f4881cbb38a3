"""The web page, at `/`: static files of this package, under a content security policy that lets nothing else run."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from flask import Blueprint, Response, request

from api.errors import Refusal
from api.params import no_params

blueprint = Blueprint("page", __name__)

DIRECTORY = Path(__file__).parent / "web"
INDEX = "index.html"
LOADING = "loading.js"
"""Stands in the index itself: what helps when files do not come cannot be one of them."""
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_INLINE = (DIRECTORY / LOADING).read_bytes()
_INLINE_HASH = base64.b64encode(hashlib.sha256(_INLINE).digest()).decode()
"""As a content security policy names it (W3C CSP3, hash-source)."""


HEADERS = {
    # What a task has printed or is named is shown as text only; should that ever fail, the browser still runs none of
    # it: no inline script (but the one of this hash) or style, no address but this server's, no form, and no string is
    # taken as HTML. The one policy of Trusted Types is the log's (log-view.js), which lets its own worker start and
    # nothing else.
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'self' 'sha256-{_INLINE_HASH}'; worker-src 'self'; style-src 'self'; "
        "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types sandbox-worker"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Asked anew each time: a page of one release never runs the modules of another.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page. `etag` is of its content."""

    body: bytes
    content_type: str
    etag: str


def _load(directory: Path) -> dict[str, Asset]:
    """Read every file of the page; what a request names is only ever looked up among them."""
    found = {}
    for file in sorted(directory.iterdir()):
        if file.suffix in TYPES and file.name != LOADING:
            body = file.read_bytes()
            if file.name == INDEX:
                body = body.replace(b"<script></script>", b"<script>" + _INLINE + b"</script>")
            found[file.name] = Asset(body, TYPES[file.suffix], hashlib.sha256(body).hexdigest()[:32])
    return found


ASSETS = _load(DIRECTORY)


@blueprint.get("/")
def index() -> Response:
    """Whatever parameters a mail program adds to a link: the page has none of its own."""
    return _answer(ASSETS[INDEX])


@blueprint.get("/assets/<name>")
def asset(name: str) -> Response:
    no_params()
    found = ASSETS.get(name)
    if found is None or name == INDEX:
        raise Refusal(404, "not_found", f"the page has no file {name!r}; reload it: it may be of another release")
    return _answer(found)


def _answer(one: Asset) -> Response:
    headers = {**HEADERS, "ETag": f'"{one.etag}"'}
    if request.if_none_match.contains_weak(one.etag):
        return Response(status=304, headers=headers)
    return Response(one.body, headers=headers, content_type=one.content_type)
