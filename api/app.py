"""The Flask application: blueprints, request ids, the origin check, the error table."""

from __future__ import annotations

import logging
import re
import time
import uuid
from urllib.parse import urlsplit

from flask import Flask, Response, g, request

from api import artifacts, errors, health, logs, metrics, tasks
from api.errors import Refusal
from api.feed import Hub
from api.metrics import Metrics
from api.parts import KEY, Parts, parts, policy_of
from orchestrator.product import Product

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 2 << 20
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
BLUEPRINTS = (tasks, logs, artifacts, health, metrics)


def create_app(product: Product) -> Flask:
    """Build the application on an open product."""
    app = Flask("sandbox-api", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.url_map.merge_slashes = False  # an artifact's path is taken as it is, never redirected
    app.url_map.redirect_defaults = False
    app.json.sort_keys = False  # type: ignore[attr-defined]
    database = product.database
    app.extensions[KEY] = Parts(product, Hub(database), policy_of(product), Metrics(database))
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
    _check_origin()


def _check_origin() -> None:
    """A page of another origin must not drive this API through a visitor's browser."""
    origin = request.headers.get("Origin")
    if origin is None:
        return
    allowed = parts().product.settings.allowed_origins
    own = urlsplit(origin).netloc == request.host and urlsplit(origin).scheme == request.scheme
    if not own and origin not in allowed:
        message = f"requests from pages of {origin[:200]} are not accepted; name it in SANDBOX_ALLOWED_ORIGINS"
        raise Refusal(403, "forbidden", message)


def _finish(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.get("request_id", "")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
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
