"""`GET /tasks/stream`: by WebSocket for who asks for an upgrade, else by SSE."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator

from flask import Blueprint, Response, request

from api import lasting
from api.access import permit, reach
from api.errors import Refusal, invalid_parameter
from api.hangup import has_hung_up
from api.params import Params
from api.parts import parts
from api.stream.frames import SSE, WEBSOCKET, cursor_place
from api.stream.reading import Reader, Wanted
from api.stream.selection import TYPES, Selection
from api.stream.websocket import GOING_AWAY, Socket, WebSocketResponse, handshake
from api.subprotocols import chosen
from orchestrator.access import Scope
from orchestrator.journal import Place
from orchestrator.services.cancel import TaskNotFound
from orchestrator.store import tasks

blueprint = Blueprint("stream", __name__, url_prefix="/api/v1/tasks")

HEARTBEAT_MS, SHORTEST_HEARTBEAT_MS, LONGEST_HEARTBEAT_MS = 30_000, 1_000, 300_000
LONGEST_RATE_LIMIT_MS = 60_000


@blueprint.get("/stream")
def get_stream() -> Response:
    wanted, connection = _wanted(), _connection()
    lasting.begin()
    allowed = permit()

    def check() -> None:
        if has_hung_up(connection) or not allowed.holds():
            raise ConnectionResetError(errno.ECONNRESET, "the reader of the event stream has gone, or lost its access")

    response = Response(_parts(wanted, SSE, connection, check), content_type="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # a reverse proxy must not hold frames back
    return response


@blueprint.route("/stream", websocket=True, methods=["GET"])
def open_websocket() -> Response:
    """Called for requests with `Upgrade: websocket`; werkzeug tells the two apart."""
    wanted, connection = _wanted(), _connection()
    protocol, offered = handshake(
        request.headers, request.method, request.environ["SERVER_PROTOCOL"], request.full_path
    )
    if connection is None:
        raise Refusal(501, "not_implemented", "this server carries no WebSocket; ask with Accept: text/event-stream")
    lasting.begin()
    link, allowed = Socket(connection, protocol), permit()

    def check() -> None:
        link.listen()
        if not allowed.holds():
            link.close(GOING_AWAY, "the access token of this reader is not valid any more")

    return WebSocketResponse(link, _parts(wanted, WEBSOCKET, connection, check), chosen(offered))


def _connection() -> socket.socket | None:
    """The request's own, as the server has put it there; None under another one."""
    found: socket.socket | None = request.environ.get("gunicorn.socket")
    return found


def _parts(wanted: Wanted, form: str, connection: socket.socket | None, check: Callable[[], None]) -> Iterator[bytes]:
    here = parts()
    reader = Reader(here.product.database, here.events, wanted, form, connection, check)

    def read() -> Iterator[bytes]:
        yield b""  # the headers go out now, not with the first frame
        yield from reader

    return read()


def _wanted() -> Wanted:
    params = Params(
        "task_id", "filter", "label", "label.", "state", "parent_id", "exclude_preexisting", "heartbeat_interval_ms",
        "rate_limit_ms", "after",
    )  # fmt: skip
    owner, task_id = reach(Scope.TASK_READ), params.text("task_id")
    if task_id is not None:
        with parts().product.database.read() as tx:
            if not tasks.exists(tx, task_id, owner=owner):
                raise TaskNotFound(task_id)
    selection = Selection(
        types=_types(params.text("filter")),
        task_id=task_id,
        labels=tuple(sorted(set(params.labels()))),
        states=frozenset(params.states()),
        parent_id=params.text("parent_id"),
        owner=owner,
        rate_limit_ms=params.integer("rate_limit_ms", 0, 0, LONGEST_RATE_LIMIT_MS),
    )
    beat = params.integer("heartbeat_interval_ms", HEARTBEAT_MS, SHORTEST_HEARTBEAT_MS, LONGEST_HEARTBEAT_MS)
    return Wanted(selection, _after(params), not params.flag("exclude_preexisting"), beat / 1000)


def _after(params: Params) -> Place | None:
    """A client that comes back repeats the address it began with, and says in the header how far it came."""
    for name, raw in (
        ("Last-Event-ID", request.headers.get("Last-Event-ID") or None),
        ("after", params.text("after")),
    ):
        if raw is not None:
            try:
                return cursor_place(raw)
            except ValueError as error:
                raise invalid_parameter(name, f"{error}; give the id of a frame, or 0 for the beginning") from None
    return None


def _types(raw: str | None) -> frozenset[str]:
    if raw is None:
        return TYPES
    named = frozenset(one.strip() for one in raw.split(","))
    if unknown := named - TYPES:
        known = ", ".join(sorted(TYPES))
        raise invalid_parameter("filter", f"filter={raw!r}: {min(unknown)!r} is no type of frame; there are {known}")
    return named
