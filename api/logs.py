"""Logs: text, ndjson, SSE and raw; tail, since, after, follow, resume (contract §5)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from flask import Blueprint, Response, request

from api.errors import invalid_parameter
from api.feed import follow
from api.params import Params
from api.parts import Parts, parts
from api.rendering import ALL, FORMATS, KEEP_ALIVE, STREAMS, Row, TextRenderer, sse_event
from orchestrator import clock, journal
from orchestrator.models import Kind, Task
from orchestrator.services.cancel import TaskNotFound
from orchestrator.store import tasks

blueprint = Blueprint("logs", __name__, url_prefix="/api/v1/tasks")

KEEP_ALIVE_SECONDS = 15.0
TYPES = {
    "text": "text/plain; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "sse": "text/event-stream",
    "raw": "application/octet-stream",
}
EVERY_ATTEMPT = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one reader asked for. `attempt` None: from `first_attempt` on."""

    form: str
    stream: str
    follow: bool
    cursor: int
    first_attempt: int
    attempt: int | None

    def takes(self, row: Row) -> bool:
        number = row.record.attempt
        return number == self.attempt if self.attempt is not None else number >= self.first_attempt


@blueprint.get("/<task_id>/logs")
def get_logs(task_id: str) -> Response:
    params = Params("follow", "stream", "since", "tail", "after", "attempt", "format")
    here = parts()
    with here.product.database.read() as tx:
        task = tasks.get(tx, task_id)
    if task is None:
        raise TaskNotFound(task_id)
    wanted = _wanted(here, task, params)
    response = Response(_stream(here, task, wanted), content_type=TYPES[wanted.form])
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # a reverse proxy must not hold lines back
    return response


def _wanted(here: Parts, task: Task, params: Params) -> Wanted:
    following = params.flag("follow")
    form = params.choice("format", _preferred(following), FORMATS)
    stream = params.choice("stream", ALL, STREAMS)
    if form == "raw" and stream not in ("stdout", "stderr"):
        raise invalid_parameter("stream", "format=raw gives one stream's bytes: add stream=stdout or stream=stderr")
    attempt, first = _attempts(task, params.text("attempt"))
    cursor = params.integer("after", _last_event_id(), 0)
    wanted = Wanted(form, stream, following, cursor, first, attempt)
    since, tail = params.instant("since"), params.integer("tail", 0, 0)
    with here.product.database.read() as tx:
        if since:
            cursor = max(cursor, journal.since(tx, task.id, since))
        if tail:
            newest_first = (Row(one) for one in journal.backwards(tx, task.id, attempt=attempt))
            cursor = max(cursor, _tail_cursor(newest_first, wanted, tail))
    return Wanted(form, stream, following, cursor, first, attempt)


def _tail_cursor(newest_first: Iterator[Row], wanted: Wanted, lines: int) -> int:
    """The cursor behind which the last `lines` lines of what is shown lie."""
    missing = lines
    for row in newest_first:
        record = row.record
        if not wanted.takes(row) or not row.shown_in(wanted.stream):
            continue
        if wanted.form == "raw" and record.kind is not Kind.OUTPUT:
            continue
        size = record.last_seq - record.first_seq + 1
        if size >= missing:
            return record.last_seq - missing
        missing -= size
    return 0


def _preferred(following: bool) -> str:
    """What `Accept` names, best first; else SSE for a follower and text for everybody else."""
    by_type = {"text/plain": "text", "application/x-ndjson": "ndjson", "text/event-stream": "sse"}
    for media_type, _quality in request.accept_mimetypes:
        if media_type in by_type:
            return by_type[media_type]
    return "sse" if following else "text"


def _attempts(task: Task, raw: str | None) -> tuple[int | None, int]:
    """(one attempt or None, else from this attempt on). The default is the latest, and what follows it."""
    if raw is None:
        return None, task.attempt if task.attempt > 1 else EVERY_ATTEMPT
    if raw == "all":
        return None, EVERY_ATTEMPT
    if raw.isascii() and raw.isdigit() and 1 <= int(raw) <= max(task.attempt, 1):
        return int(raw), 0
    raise invalid_parameter("attempt", f"attempt={raw!r} is neither `all` nor 1 to {max(task.attempt, 1)}")


def _last_event_id() -> int:
    raw = request.headers.get("Last-Event-ID", "")
    if not raw:
        return 0
    if not (raw.isascii() and raw.isdigit() and len(raw) <= 18):
        raise invalid_parameter("Last-Event-ID", f"Last-Event-ID {raw!r} is no cursor of this log")
    return int(raw)


def _stream(here: Parts, task: Task, wanted: Wanted) -> Iterator[bytes]:
    """Render what is there, and with `follow` what comes, until the task has ended."""
    text = TextRenderer(wanted.stream)
    cursor = wanted.cursor
    for rows in _rows(here, task, wanted):
        if not rows and wanted.form == "sse":
            yield KEEP_ALIVE
        taken = [row for row in rows if wanted.takes(row)]
        if wanted.form == "text":
            rendered = b"".join([text.render(row, cursor) for row in taken])
        else:
            rendered = b"".join([row.render(wanted.form, wanted.stream, cursor) for row in taken])
        if rows:
            cursor = max(cursor, rows[-1].record.last_seq)
        if rendered:
            yield rendered
    if wanted.form == "text":
        yield text.rest()
    if wanted.form == "sse":
        yield _end(here, task.id, cursor)


def _rows(here: Parts, task: Task, wanted: Wanted) -> Iterator[list[Row]]:
    database = here.product.database
    if not wanted.follow:
        with database.read() as tx:
            last = journal.last_seq(tx, task.id)
        cursor = wanted.cursor
        while cursor < last:
            with database.read() as tx:
                found = [Row(one) for one in journal.after(tx, task.id, cursor) if one.first_seq <= last]
            if not found:
                return
            yield found
            cursor = found[-1].record.last_seq
        return
    with ExitStack() as stack:
        feed = stack.enter_context(here.hub.feed(task.id))

        def ended() -> bool:
            with database.read() as tx:
                now = tasks.get(tx, task.id)
            return now is None or now.is_terminal

        yield from follow(database, feed, task.id, wanted.cursor, keep_alive_seconds=KEEP_ALIVE_SECONDS, ended=ended)


def _end(here: Parts, task_id: str, cursor: int) -> bytes:
    with here.product.database.read() as tx:
        task = tasks.get(tx, task_id)
    if task is None:
        return b""
    reason = task.outcome.reason if task.outcome else None
    body = {
        "seq": cursor,
        "timestamp": clock.text(clock.now()),
        "stream": "end",
        "state": task.state,
        "exit_code": task.exit_code,
        "reason": reason,
    }
    return sse_event("end", cursor, body)
