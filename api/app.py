"""The Flask application: blueprints, request ids, the way in (origins, access), the error table."""

from __future__ import annotations

import logging
import re
import time
import uuid

from flask import Flask, Response, g, request

from api import (
    access,
    artifacts,
    errors,
    fleet,
    headers,
    health,
    lasting,
    logs,
    metrics,
    network,
    origins,
    page,
    tasks,
    trail,
    webhooks,
)
from api.callers import Callers
from api.condition import Condition
from api.errors import Refusal
from api.feed import Hub
from api.metrics import Metrics
from api.parts import KEY, Parts, parts, policy_of
from api.stream import routes
from api.stream.hub import EventHub
from api.trail import Trail
from orchestrator.documents.parts import MAX_BYTES
from orchestrator.log_reader import LogReader
from orchestrator.product import Product

log = logging.getLogger(__name__)

BODY_BYTES_READ = MAX_BYTES + 1
"""One more than is accepted: Werkzeug cuts a body without a length there in silence, and the reader of
documents sees that it is too long."""
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
BLUEPRINTS = (page, routes, tasks, logs, network, artifacts, fleet, webhooks, health, metrics)
KEEP_ALIVE_SECONDS = 15.0
"""How long a follower may hear nothing (contract §5)."""


def create_app(product: Product, *, keep_alive_seconds: float = KEEP_ALIVE_SECONDS) -> Flask:
    """Build the application on an open product."""
    app = Flask("sandbox-api", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = BODY_BYTES_READ
    app.url_map.merge_slashes = False  # an artifact's path is taken as it is, never redirected
    app.url_map.redirect_defaults = False
    app.json.sort_keys = False  # type: ignore[attr-defined]
    database, callers = product.database, Callers(product)
    app.extensions[KEY] = Parts(
        product,
        Hub(database),
        policy_of(product),
        Metrics(database, callers.places.taken),
        keep_alive_seconds,
        LogReader(database, product.artifacts),
        callers,
        Trail(database),
        Condition(product),
        EventHub(database),
    )
    for module in BLUEPRINTS:
        app.register_blueprint(module.blueprint)
    errors.install(app)
    app.before_request(_begin)
    app.after_request(_finish)
    app.after_request(lasting.note_end)  # called first, so that nothing comes between
    return app


def _begin() -> None:
    given = request.headers.get("X-Request-Id", "")
    g.request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    g.began = time.monotonic()
    access.note_peer()
    origins.check()
    if "\x00" in request.path:  # no id or path holds one, and PostgreSQL takes none as a value
        raise Refusal(404, "not_found", "the address holds a NUL; there is nothing at such an address")
    access.admit()


def _finish(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.get("request_id", "")
    headers.add(response)
    origins.admit(response)
    entry = trail.entry_of(response)
    if entry is not None:
        parts().trail.add(entry)
    caller = g.get("caller")
    log.info(
        "request",
        extra={
            "request": g.get("request_id", ""),
            "method": request.method,
            "path": request.path,
            "status": response.status_code,
            "remote": g.peer.address,
            "token": caller.token_id if caller else None,
            "owner": caller.owner if caller else None,
            "milliseconds": round((time.monotonic() - g.get("began", time.monotonic())) * 1000, 1),
        },
    )
    return response
