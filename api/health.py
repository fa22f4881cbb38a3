"""Health, readiness, liveness; the published schemas."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

import schemas
from api.errors import problem
from api.params import no_params
from api.parts import parts
from orchestrator.artifacts import ArtifactStoreUnavailable
from orchestrator.broker.messages import BrokerUnavailable
from orchestrator.models import WorkerState
from orchestrator.store import workers
from orchestrator.store.database import StoreUnavailable

blueprint = Blueprint("health", __name__)


@blueprint.get("/api/health")
@blueprint.get("/api/v1/health")
def health() -> Response:
    """The API answers, and says of each part whether it does."""
    no_params()
    trouble = _trouble()
    status = "degraded" if trouble else "healthy"
    return jsonify(
        status=status,
        parts={name: trouble.get(name, "ok") for name in ("store", "broker", "artifacts", "engine")},
    )


@blueprint.get("/api/v1/health/live")
def live() -> Response:
    no_params()
    return jsonify(status="live")


@blueprint.get("/api/v1/health/ready")
def ready() -> Response:
    """503 with the reason when store or broker (in `up` also the engine) is not reachable."""
    no_params()
    trouble = _trouble()
    if trouble:
        why = "; ".join(f"{name}: {reason}" for name, reason in trouble.items())
        return problem(503, "service_unavailable", f"not ready: {why}", {"details": trouble})
    return jsonify(status="ready")


def _trouble() -> dict[str, str]:
    product = parts().product
    found: dict[str, str] = {}
    try:
        with product.database.read() as tx:
            fleet = workers.all_of(tx)
    except StoreUnavailable as error:
        return {"store": str(error)}
    try:
        product.broker.ping()
    except BrokerUnavailable as error:
        found["broker"] = str(error)
    try:
        product.artifacts.ping()
    except ArtifactStoreUnavailable as error:
        found["artifacts"] = str(error)
    if product.settings.embedded:
        mine = [one for one in fleet if one.name == product.settings.worker_name]
        if not mine or mine[0].state is not WorkerState.ACTIVE:
            found["engine"] = "the worker of this `sandbox up` has not started yet"
        elif mine[0].trouble:
            found["engine"] = mine[0].trouble
    return found


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
