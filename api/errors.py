"""One table: what went wrong inside → what the client is told (contract §3)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, g, jsonify
from werkzeug.exceptions import HTTPException

from orchestrator import clock
from orchestrator.artifacts import ArtifactStoreUnavailable
from orchestrator.log_reader import ArchivedLogUnreadable
from orchestrator.manifest import DocumentTooLarge, InvalidManifest, UnsupportedContentType
from orchestrator.services.cancel import AlreadyTerminal, TaskNotFound
from orchestrator.services.fleet import WorkerInUse
from orchestrator.services.purge import NotTerminal
from orchestrator.services.resume import SessionNotKept
from orchestrator.services.send_input import (
    InputClosed,
    InvalidInput,
    NotInteractive,
    NotWaitingForInput,
    TooManyInputs,
)
from orchestrator.services.submit import IdempotencyKeyReused, InsufficientResources
from orchestrator.services.webhooks import DeliveryNotFound, InvalidWebhook, TooManyWebhooks, WebhookNotFound
from orchestrator.store.database import StoreUnavailable
from orchestrator.store.tasks import DuplicateTask, TaskIdTaken
from orchestrator.store.workers import UnknownWorker

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = "5"


class Refusal(Exception):
    """A request the API itself refuses: status, code, message, details, headers of the answer."""

    def __init__(
        self,
        status: int,
        error: str,
        message: str,
        details: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.details = details
        self.headers = headers or {}


def invalid_parameter(name: str, message: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, "invalid_parameter", message, {"parameter": name})


@dataclass(frozen=True, slots=True)
class Answer:
    """`message` is told instead of the exception's text, which goes to the log."""

    status: int
    error: str
    more: Callable[[Any], dict[str, Any]] = lambda _error: {}
    message: str | None = None


def _away(part: str) -> str:
    """A driver's own words hold addresses, and names of databases and users."""
    return (
        f"the request failed: the server's {part} does not answer; try again in a moment. If it stays, "
        "give the operator the request's id: the server's log has the cause"
    )


def _manifest(error: InvalidManifest) -> dict[str, Any]:
    errors = [one.to_dict() for one in error.errors]
    return {"details": errors[0], "errors": errors}


def _existing(error: DuplicateTask) -> dict[str, Any]:
    task = error.existing
    return {"existing_task": {"id": task.id, "state": task.state, "created_at": clock.text(task.created_at)}}


def _resources(error: InsufficientResources) -> dict[str, Any]:
    details = {
        "requested_cpus": error.asked.cpus,
        "available_cpus": error.best.cpus,
        "requested_memory": error.asked.memory_bytes,
        "available_memory": error.best.memory_bytes,
        "requested_disk": error.asked.disk_bytes,
        "available_disk": error.best.disk_bytes,
    }
    return {"details": details}


TABLE: dict[type[Exception], Answer] = {
    InvalidManifest: Answer(400, "invalid_manifest", _manifest),
    DocumentTooLarge: Answer(413, "manifest_too_large"),
    UnsupportedContentType: Answer(415, "unsupported_content_type"),
    TaskNotFound: Answer(404, "task_not_found"),
    DuplicateTask: Answer(409, "duplicate_task_id", _existing),
    TaskIdTaken: Answer(409, "duplicate_task_id"),
    AlreadyTerminal: Answer(409, "task_already_terminal", lambda error: {"task_state": error.task.state}),
    NotInteractive: Answer(409, "not_interactive"),
    InputClosed: Answer(409, "input_closed"),
    NotWaitingForInput: Answer(409, "not_waiting_for_input"),
    TooManyInputs: Answer(409, "too_many_inputs"),
    InvalidInput: Answer(400, "invalid_parameter", lambda error: {"details": {"parameter": error.parameter}}),
    SessionNotKept: Answer(409, "session_not_kept"),
    WebhookNotFound: Answer(404, "webhook_not_found"),
    DeliveryNotFound: Answer(404, "delivery_not_found"),
    TooManyWebhooks: Answer(409, "too_many_webhooks"),
    InvalidWebhook: Answer(400, "invalid_parameter", lambda error: {"details": {"parameter": error.parameter}}),
    NotTerminal: Answer(422, "invalid_state_transition", lambda error: {"task_state": error.task.state}),
    IdempotencyKeyReused: Answer(422, "idempotency_key_reused"),
    UnknownWorker: Answer(404, "worker_not_found"),
    WorkerInUse: Answer(409, "worker_in_use"),
    InsufficientResources: Answer(507, "insufficient_resources", _resources),
    StoreUnavailable: Answer(503, "service_unavailable", message=_away("store")),
    ArtifactStoreUnavailable: Answer(503, "service_unavailable", message=_away("artifact storage")),
    ArchivedLogUnreadable: Answer(503, "service_unavailable"),
}

_HTTP = {
    404: ("not_found", "there is nothing at this address; see /api/v1/openapi.json for what there is"),
    405: ("method_not_allowed", "this address does not take this method; see the Allow header"),
    413: ("manifest_too_large", "the body is larger than 2 MiB; hand in big inputs through the repository"),
    400: ("invalid_parameter", "the request cannot be understood"),
    416: ("invalid_parameter", "the Range header asks for bytes that are not there"),
}


def problem(status: int, error: str, message: str, more: dict[str, Any] | None = None) -> Response:
    """The error body of every route."""
    body = {"error": error, "message": message, **(more or {}), "request_id": g.get("request_id", "")}
    response = jsonify({key: value for key, value in body.items() if value is not None})
    response.status_code = status
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = RETRY_AFTER_SECONDS
    return response


def install(app: Flask) -> None:
    """Register the table."""
    for kind, answer in TABLE.items():
        app.register_error_handler(kind, _handler(answer))
    app.register_error_handler(Refusal, _refused)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)


def _handler(answer: Answer) -> Callable[[Exception], Response]:
    def handle(error: Exception) -> Response:
        if answer.message is not None:
            log.warning("request refused", extra={"request": g.get("request_id", ""), "why": str(error)})
        return problem(answer.status, answer.error, answer.message or str(error), answer.more(error))

    return handle


def _refused(error: Refusal) -> Response:
    response = problem(error.status, error.error, str(error), {"details": error.details} if error.details else None)
    response.headers.update(error.headers)
    return response


def _http(error: HTTPException) -> Response:
    code = error.code or 500
    name, message = _HTTP.get(code, (error.name.lower().replace(" ", "_"), error.description or error.name))
    response = problem(code, name, message)
    if error.get_response().headers.get("Allow"):
        response.headers["Allow"] = error.get_response().headers["Allow"]
    return response


def _unexpected(error: Exception) -> Response:
    log.error("request failed", exc_info=error, extra={"request": g.get("request_id", "")})
    message = "the server failed; the request id is in its log: report it with that"
    return problem(500, "internal_error", message)
