"""Health, readiness, liveness; the published schemas."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from flask import Blueprint, Response, g, jsonify

import schemas
from api import access
from api.condition import PARTS
from api.errors import problem
from api.params import no_params
from api.parts import parts
from orchestrator.store.database import StoreUnavailable

log = logging.getLogger(__name__)

blueprint = Blueprint("health", __name__)


@blueprint.get("/api/health")
@blueprint.get("/api/v1/health")
def health() -> Response:
    """The API answers, and says of each part whether it does."""
    no_params()
    trouble = _told()
    status = "degraded" if trouble else "healthy"
    return jsonify(
        status=status,
        parts={name: trouble.get(name, "ok") for name in PARTS},
    )


@blueprint.get("/api/v1/health/live")
def live() -> Response:
    no_params()
    return jsonify(status="live")


@blueprint.get("/api/v1/health/ready")
def ready() -> Response:
    """503 with the reason when store or broker (in `up` also the engine) is not reachable."""
    no_params()
    trouble = _told()
    if trouble:
        why = "; ".join(f"{name}: {reason.rstrip('.')}" for name, reason in trouble.items())
        message = f"not ready: {why}; try again in a moment, the server's log has the causes with this request's id"
        return problem(503, "service_unavailable", message, {"details": trouble})
    return jsonify(status="ready")


def _told() -> dict[str, str]:
    """Part → what is the matter; the causes go to the log, and to those who may see them."""
    trouble = parts().condition.trouble()
    if not trouble:
        return {}
    log.warning("not ready", extra={"request": g.request_id, **trouble})
    if _may_see_causes(trouble):
        return dict(trouble)
    return dict.fromkeys(trouble, "not reachable")


def _may_see_causes(trouble: Mapping[str, str]) -> bool:
    """While the store is away nobody can be recognised; and each who asks would knock at it once more."""
    if "store" in trouble:
        return False
    try:
        return access.may_see_causes()
    except StoreUnavailable:
        return False


@blueprint.get("/api/v1/schemas/task")
def task_schema() -> Response:
    no_params()
    response = jsonify(schemas.load(schemas.TASK))
    response.content_type = "application/schema+json"
    return response


@blueprint.get("/api/v1/openapi.json")
def openapi() -> Response:
    no_params()
    return jsonify(schemas.load(schemas.OPENAPI))
