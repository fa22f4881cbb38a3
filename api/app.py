"""The Flask application: blueprints, request ids, the check of origins, the error table."""

from __future__ import annotations

import logging
import re
import time
import uuid

from flask import Flask, Response, g, request

from api import artifacts, errors, fleet, health, logs, metrics, origins, tasks
from api.errors import Refusal
from api.feed import Hub
from api.metrics import Metrics
from api.parts import KEY, Parts, policy_of
from orchestrator.documents.parts import MAX_BYTES
from orchestrator.log_reader import LogReader
from orchestrator.product import Product

log = logging.getLogger(__name__)

BODY_BYTES_READ = MAX_BYTES + 1
"""One more than is accepted: Werkzeug cuts a body without a length there in silence, and the reader of
documents sees that it is too long."""
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
BLUEPRINTS = (tasks, logs, artifacts, fleet, health, metrics)
KEEP_ALIVE_SECONDS = 15.0
"""How long a follower may hear nothing (contract §5)."""


def create_app(product: Product, *, keep_alive_seconds: float = KEEP_ALIVE_SECONDS) -> Flask:
    """Build the application on an open product."""
    app = Flask("sandbox-api", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = BODY_BYTES_READ
    app.url_map.merge_slashes = False  # an artifact's path is taken as it is, never redirected
    app.url_map.redirect_defaults = False
    app.json.sort_keys = False  # type: ignore[attr-defined]
    database = product.database
    app.extensions[KEY] = Parts(
        product,
        Hub(database),
        policy_of(product),
        Metrics(database),
        keep_alive_seconds,
        LogReader(database, product.artifacts),
    )
    for module in BLUEPRINTS:
        app.register_blueprint(module.blueprint)
    errors.install(app)
    app.before_request(_begin)
    app.after_request(_finish)
    return app


def _begin() -> None:
    given = request.headers.get("X-Request-Id", "")
    g.request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    g.began = time.monotonic()
    origins.check()
    if "\x00" in request.path:  # no id or path holds one, and PostgreSQL takes none as a value
        raise Refusal(404, "not_found", "the address holds a NUL; there is nothing at such an address")


def _finish(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.get("request_id", "")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    origins.admit(response)
    log.info(
        "request",
        extra={
            "request": g.get("request_id", ""),
            "method": request.method,
            "path": request.path,
            "status": response.status_code,
            "milliseconds": round((time.monotonic() - g.get("began", time.monotonic())) * 1000, 1),
        },
    )
    return response
