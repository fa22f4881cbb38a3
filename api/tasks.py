"""Tasks: submit, list, look, cancel, purge, rerun; talk to an agent, and go on from one."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, g, jsonify, request

from api import lasting, trail, views
from api.access import caller, reach
from api.errors import invalid_parameter
from api.params import Params, json_body, json_object, no_params
from api.parts import parts
from orchestrator import clock, manifest
from orchestrator.access import Scope
from orchestrator.manifest.notify import without_secrets
from orchestrator.services.cancel import AlreadyTerminal, TaskNotFound, Wish, cancel
from orchestrator.services.purge import purge
from orchestrator.services.rerun import rerun
from orchestrator.services.resume import resume
from orchestrator.services.send_input import answer, send_message
from orchestrator.services.submit import submit
from orchestrator.states import State
from orchestrator.store import attempts as attempt_rows
from orchestrator.store import conversation, tasks
from orchestrator.store.matching import Query

blueprint = Blueprint("tasks", __name__, url_prefix="/api/v1/tasks")

SORTS = ("created_at", "started_at", "state_changed_at", "name")
DEFAULT_WAIT_SECONDS = 15
MAX_WAIT_SECONDS = 300
MAX_REASON = 1000
"""Characters."""


@blueprint.post("")
def submit_task() -> tuple[Response, int] | Response:
    params, key = Params("dry_run"), _idempotency_key()
    here, dry_run = parts(), params.flag("dry_run")
    if dry_run:
        trail.pass_over()
    parsed = manifest.parse(request.get_data(cache=False), request.content_type or "", policy=here.policy)
    if dry_run:
        return jsonify(without_secrets(parsed.definition))
    return _accepted(submit(here.product, parsed, idempotency_key=key, by=caller()))


@blueprint.get("")
def list_tasks() -> Response:
    params = Params("state", "label.", "label", "limit", "offset", "sort", "order", "parent_id")
    query = Query(
        states=params.states(),
        labels=params.labels(),
        parent_id=params.text("parent_id"),
        limit=params.integer("limit", 100, 1, 1000),
        offset=params.integer("offset", 0, 0),
        sort=params.choice("sort", "created_at", SORTS),
        descending=params.choice("order", "desc", ("asc", "desc")) == "desc",
        owner=reach(Scope.TASK_READ),
    )
    with parts().product.database.read() as tx:
        found, total = tasks.find(tx, query)
        waiting = conversation.open_of(tx, [task.id for task in found if task.state is State.RUNNING])
    return jsonify(
        tasks=[views.list_item(task, waiting.get(task.id)) for task in found],
        total_count=total,
        limit=query.limit,
        offset=query.offset,
        has_more=query.offset + len(found) < total,
    )


@blueprint.get("/<task_id>")
def get_task(task_id: str) -> Response:
    no_params()
    with parts().product.database.read() as tx:
        task = tasks.get(tx, task_id)
        attempts = attempt_rows.of_task(tx, task_id)
        waiting = conversation.open_of(tx, [task_id] if task and task.state is State.RUNNING else [])
    if task is None:
        raise TaskNotFound(task_id)
    return jsonify(views.details(task, attempts, waiting.get(task_id), clock.now()))


@blueprint.delete("/<task_id>")
def cancel_task(task_id: str) -> tuple[Response, int] | Response:
    params = Params("reason", "force", "wait", "children")
    wish = _wish(params)
    wait = params.integer("wait", DEFAULT_WAIT_SECONDS, 0, MAX_WAIT_SECONDS)
    children = params.flag("children")
    product = parts().product
    if wait:  # before anything is cancelled: who is refused has changed nothing
        lasting.begin()
    if children:  # first: an answer 409 for a parent that has ended must not spare them
        _cancel_children(task_id, wish)
    task = cancel(product, task_id, wish)
    if not task.is_terminal and wait:
        task = parts().hub.wait_terminal(task_id, wait) or task
    return _cancelled(task)


@blueprint.delete("/<task_id>/data")
def purge_task(task_id: str) -> tuple[str, int]:
    no_params()
    purge(parts().product, task_id)
    return "", 204


@blueprint.post("/<task_id>/rerun")
def rerun_task(task_id: str) -> tuple[Response, int]:
    no_params()
    here, key, patch = parts(), _idempotency_key(), json_object()
    return _accepted(rerun(here.product, task_id, patch, here.policy, idempotency_key=key, by=caller()))


@blueprint.post("/<task_id>/input")
def send_input(task_id: str) -> tuple[Response, int]:
    no_params()
    body, product, by = json_body("text", "id", "answer"), parts().product, _caller_named()
    given = {name: _text_of(body, name) for name in ("text", "id", "answer")}
    if given["text"] is not None and given["answer"] is None and given["id"] is None:
        sent = send_message(product, task_id, given["text"], by)
    elif given["answer"] is not None and given["text"] is None:
        sent = answer(product, task_id, given["id"], given["answer"], by)
    else:
        raise invalid_parameter("body", "send either text, or answer with or without the id of the question")
    message = f"input {sent.number} of task {task_id} is stored; its agent is given it as soon as it takes it"
    return jsonify(task_id=task_id, number=sent.number, message=message), 202


@blueprint.post("/<task_id>/resume")
def resume_task(task_id: str) -> tuple[Response, int]:
    no_params()
    here, key, prompt = parts(), _idempotency_key(), _text_of(json_body("prompt"), "prompt")
    return _accepted(resume(here.product, task_id, prompt, here.policy, idempotency_key=key, by=caller()))


def _text_of(body: dict[str, Any], name: str) -> str | None:
    found = body.get(name)
    if found is not None and not isinstance(found, str):
        raise invalid_parameter(name, f"{name} is no text; send it as a JSON string")
    return found


def _accepted(task: Any) -> tuple[Response, int]:
    response = jsonify(views.accepted(task))
    response.headers["Location"] = f"/api/v1/tasks/{task.id}"
    return response, 202


def _cancelled(task: Any) -> tuple[Response, int] | Response:
    wish = task.cancellation
    body = {
        "success": True,
        "task_id": task.id,
        "previous_state": wish.previous_state,
        "new_state": task.state,
    }
    if task.state is State.CANCELLED:
        message = f"task {task.id} is cancelled"
        return jsonify({**body, "message": message, "cancelled_at": clock.text(task.finished_at)})
    if task.is_terminal:  # its worker was lost before it could confirm
        raise AlreadyTerminal(task)
    with parts().product.database.read() as tx:
        attempts = attempt_rows.of_task(tx, task.id)
    message = f"the cancellation of task {task.id} is stored; it is {task.state} and will be cancelled"
    return jsonify({**body, "message": message, "cancel": views.cancellation(task, attempts)}), 202


def _cancel_children(task_id: str, wish: Wish) -> None:
    """Cancel all below a task. An id may come back after retention, so a task may stand below itself."""
    product, owner = parts().product, reach(Scope.TASK_CANCEL)
    seen, waiting = {task_id}, [task_id]
    while waiting:
        with product.database.read() as tx:
            children = [one for one in tasks.children_of(tx, waiting.pop(), owner=owner) if one not in seen]
        seen.update(children)
        waiting += children
        for child in children:
            try:
                task = cancel(product, child, wish)
            except (AlreadyTerminal, TaskNotFound):  # retention may have removed it since
                continue
            status = HTTPStatus.OK if task.is_terminal else HTTPStatus.ACCEPTED
            parts().trail.add(trail.entry(child, status))


def _idempotency_key() -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= 255):
        raise invalid_parameter("Idempotency-Key", "the Idempotency-Key header takes 1 to 255 characters")
    return key


def _wish(params: Params) -> Wish:
    """Reason and force from the query; a JSON body wins."""
    body = json_body("reason", "force")
    reason, force = params.text("reason", MAX_REASON), params.flag("force")
    reason, force = body.get("reason", reason), body.get("force", force)
    if not (reason is None or (isinstance(reason, str) and len(reason) <= MAX_REASON)):
        raise invalid_parameter("reason", f"reason is a text of at most {MAX_REASON} characters")
    if not isinstance(force, bool):
        raise invalid_parameter("force", "force is true or false")
    return Wish(_caller_named(), reason, force)


def _caller_named() -> str:
    """Who asks, for what is kept with a task."""
    who = caller()
    return str(g.peer.address) if who.owner is None else f"{who.owner} (token {who.token_name})"
