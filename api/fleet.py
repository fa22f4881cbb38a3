"""The fleet: list and look at workers, drain, resume, remove them."""

from __future__ import annotations

import sqlalchemy as sa
from flask import Blueprint, Response, jsonify

from api import views
from api.access import reach
from api.errors import invalid_parameter
from api.params import Params, json_body, no_params
from api.parts import parts
from orchestrator.access import Scope
from orchestrator.models import Worker
from orchestrator.quantities import duration_seconds
from orchestrator.services import fleet
from orchestrator.store import attempts, queue, workers
from orchestrator.store.workers import UnknownWorker

blueprint = Blueprint("fleet", __name__, url_prefix="/api/v1/workers")

MAX_DEADLINE_SECONDS = 8760 * 3600
"""A year: later than that is none."""


@blueprint.get("")
def list_workers() -> Response:
    no_params()
    with parts().product.database.read() as tx:
        return jsonify(workers=_shown(tx, workers.all_of(tx)))


@blueprint.get("/<name>")
def get_worker(name: str) -> Response:
    no_params()
    return _answer(name)


@blueprint.post("/<name>/drain")
def drain_worker(name: str) -> Response:
    deadline = _deadline(Params("deadline"))
    fleet.drain(parts().product, name, deadline_seconds=deadline)
    return _answer(name)


@blueprint.post("/<name>/resume")
def resume_worker(name: str) -> Response:
    no_params()
    fleet.resume(parts().product, name)
    return _answer(name)


@blueprint.delete("/<name>")
def remove_worker(name: str) -> tuple[str, int]:
    force = Params("force").flag("force")
    fleet.remove(parts().product, name, force=force)
    return "", 204


def _answer(name: str) -> Response:
    with parts().product.database.read() as tx:
        worker = workers.get(tx, name)
        if worker is None:
            raise UnknownWorker(name)
        return jsonify(_shown(tx, [worker])[0])


def _shown(tx: sa.Connection, found: list[Worker]) -> list[dict[str, object]]:
    """Who may not read a task is not told its id here either, only how many there are."""
    held, owned = queue.held_by_worker(tx), attempts.owned_by_worker(tx)
    whose = reach(Scope.TASK_READ)
    shown = []
    for one in found:
        has = owned.get(one.name, [])
        ids = [task_id for task_id, owner in has if whose in (None, owner)]
        shown.append(views.worker(one, held.get(one.name), ids, len(has)))
    return shown


def _deadline(params: Params) -> float | None:
    """`deadline` from the query; a JSON body wins, but a bad one in the query is refused beside it, too.

    None: the drain has no deadline.
    """
    body = json_body("deadline")
    asked = _seconds(params.text("deadline"))
    return _seconds(body["deadline"]) if "deadline" in body else asked


def _seconds(raw: object) -> float | None:
    if raw is None:
        return None
    try:
        seconds = duration_seconds(raw if isinstance(raw, str) else repr(raw))
    except ValueError as error:
        raise invalid_parameter("deadline", f"deadline: {error}") from None
    if seconds > MAX_DEADLINE_SECONDS:
        raise invalid_parameter("deadline", f"deadline={raw} is longer than a year; leave it out to have none")
    return seconds
