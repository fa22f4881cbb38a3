"""Webhooks: make, list, look, delete; what they were sent, and sending it once more."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from api import webhook_views as views
from api.access import caller, reach
from api.errors import invalid_parameter
from api.params import MAX_LABELS, Params, json_body, no_params
from api.parts import parts
from orchestrator.access import Scope
from orchestrator.services import webhooks as services
from orchestrator.store import deliveries, webhooks
from orchestrator.webhooks import events

blueprint = Blueprint("webhooks", __name__, url_prefix="/api/v1/webhooks")


@blueprint.post("")
def create_webhook() -> tuple[Response, int]:
    no_params()
    body = json_body("url", "events", "labels", "secret")
    secret = _text(body, "secret")
    made = services.create(
        parts().product,
        _text(body, "url") or "",
        wanted=_events(body),
        labels=_labels(body),
        secret=secret,
        by=caller(),
    )
    shown = views.webhook(made)
    if secret is None:  # the one time that it is told
        shown["secret"] = made.secret
    response = jsonify(shown)
    response.headers["Location"] = f"/api/v1/webhooks/{made.id}"
    return response, 201


@blueprint.get("")
def list_webhooks() -> Response:
    params = Params("task_id", "limit", "offset")
    limit, offset = _page(params)
    with parts().product.database.read() as tx:
        found, total = webhooks.find(
            tx, owner=reach(Scope.TASK_READ), task_id=params.text("task_id"), limit=limit, offset=offset
        )
    return jsonify(webhooks=[views.webhook(one) for one in found], **_frame(len(found), total, limit, offset))


@blueprint.get("/<webhook_id>")
def get_webhook(webhook_id: str) -> Response:
    no_params()
    with parts().product.database.read() as tx:
        return jsonify(views.webhook(services.look(tx, webhook_id, caller())))


@blueprint.delete("/<webhook_id>")
def delete_webhook(webhook_id: str) -> tuple[str, int]:
    no_params()
    services.delete(parts().product, webhook_id, caller())
    return "", 204


@blueprint.get("/<webhook_id>/deliveries")
def list_deliveries(webhook_id: str) -> Response:
    limit, offset = _page(Params("limit", "offset"))
    with parts().product.database.read() as tx:
        services.look(tx, webhook_id, caller())
        found, total = deliveries.find(tx, webhook_id, limit=limit, offset=offset)
    return jsonify(deliveries=[views.delivery(one) for one in found], **_frame(len(found), total, limit, offset))


@blueprint.post("/<webhook_id>/deliveries/<number>/redeliver")
def redeliver(webhook_id: str, number: str) -> tuple[Response, int]:
    no_params()
    sent = services.redeliver(parts().product, webhook_id, number, caller())
    message = f"delivery {sent} of webhook {webhook_id} is sent again at once; the list of deliveries says how it ends"
    return jsonify(webhook_id=webhook_id, number=sent, message=message), 202


def _page(params: Params) -> tuple[int, int]:
    return params.integer("limit", 100, 1, 1000), params.integer("offset", 0, 0)


def _frame(shown: int, total: int, limit: int, offset: int) -> dict[str, Any]:
    return {"total_count": total, "limit": limit, "offset": offset, "has_more": offset + shown < total}


def _text(body: dict[str, Any], name: str) -> str | None:
    found = body.get(name)
    if found is not None and not isinstance(found, str):
        raise invalid_parameter(name, f"{name} is no text; send it as a JSON string")
    return found


def _events(body: dict[str, Any]) -> tuple[str, ...]:
    found = body.get("events")
    if found is None:
        return events.DEFAULT
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise invalid_parameter("events", f"events is no list of texts; name some of {', '.join(events.Event)}")
    return tuple(found)


def _labels(body: dict[str, Any]) -> dict[str, str]:
    found = body.get("labels") or {}
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        raise invalid_parameter("labels", 'labels is no map of texts; write it like {"team": "platform"}')
    if len(found) > MAX_LABELS:
        raise invalid_parameter("labels", f"{len(found)} labels are asked for; no task has more than {MAX_LABELS}")
    return found
