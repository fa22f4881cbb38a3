"""Logs: text, ndjson, SSE and raw; tail, since, after, follow, resume (contract §5)."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from flask import Blueprint, Response, request

from api import lasting
from api.access import permit
from api.callers import Permit
from api.errors import invalid_parameter
from api.feed import follow
from api.hangup import has_hung_up
from api.params import Params
from api.parts import Parts, parts
from api.rendering import ALL, FORMATS, KEEP_ALIVE, STREAMS, Row, TextRenderer, sse_event, streams_named
from orchestrator import clock, journal
from orchestrator.models import Kind, ListedTask, Record
from orchestrator.services.cancel import TaskNotFound
from orchestrator.store import tasks

blueprint = Blueprint("logs", __name__, url_prefix="/api/v1/tasks")

TYPES = {
    "text": "text/plain; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "sse": "text/event-stream",
    "raw": "application/octet-stream",
}
EVERY_ATTEMPT = 0
RENDERED_BYTES = 1 << 20
"""Output that is rendered at once, before it is rendered."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one reader asked for. `attempt` None: from `first_attempt` on."""

    form: str
    stream: str
    follow: bool
    cursor: int
    first_attempt: int
    attempt: int | None
    since: datetime | None

    def takes(self, row: Row) -> bool:
        if self.since and row.record.at < self.since:
            return False
        number = row.record.attempt
        return number == self.attempt if self.attempt is not None else number >= self.first_attempt


@blueprint.get("/<task_id>/logs")
def get_logs(task_id: str) -> Response:
    params = Params("follow", "stream", "since", "tail", "after", "attempt", "format")
    here = parts()
    with here.product.database.read() as tx:
        task = tasks.look(tx, task_id)
    if task is None:
        raise TaskNotFound(task_id)
    wanted = _wanted(here, task, params)
    here.log_reader.check(task.id, wanted.cursor, attempt=wanted.attempt)  # later there is no status to say it with
    lasting.begin()
    body = _stream(here, task, wanted, permit(), request.environ.get("gunicorn.socket"))
    response = Response(body, content_type=TYPES[wanted.form])
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # a reverse proxy must not hold lines back
    return response


def _wanted(here: Parts, task: ListedTask, params: Params) -> Wanted:
    following = params.flag("follow")
    form = params.choice("format", _preferred(following), FORMATS)
    stream = _streams(params.text("stream"))
    if form == "raw" and stream not in ("stdout", "stderr"):
        raise invalid_parameter("stream", "format=raw gives one stream's bytes: add stream=stdout or stream=stderr")
    # A browser repeats the address it began with, `after` and `tail` included, and adds how far it came.
    resumed = _last_event_id()
    cursor = max(params.integer("after", 0, 0), resumed)
    attempt, first = _attempts(task, params.text("attempt"), resuming=cursor > 0)
    since, tail = params.instant("since"), params.integer("tail", 0, 0)
    wanted = Wanted(form, stream, following, cursor, first, attempt, since)
    if begin := attempt or first:  # what other attempts said before it need not be read
        with here.product.database.read() as tx:
            cursor = max(cursor, journal.before_attempt(tx, task.id, begin))
    if since:
        cursor = max(cursor, here.log_reader.since(task.id, since))
    if tail and not resumed:
        newest_first = map(Row, here.log_reader.backwards(task.id, attempt=attempt))
        cursor = max(cursor, _tail_cursor(newest_first, wanted, tail))
    return replace(wanted, cursor=cursor)


def _streams(raw: str | None) -> str:
    try:
        return ALL if raw is None else streams_named(raw)
    except ValueError as error:
        known = ", ".join(STREAMS)
        raise invalid_parameter("stream", f"stream={raw!r}: {error}; name some of {known}, or {ALL}") from None


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
    for media_type, quality in request.accept_mimetypes:
        if media_type in by_type and quality > 0:
            return by_type[media_type]
    return "sse" if following else "text"


def _attempts(task: ListedTask, raw: str | None, *, resuming: bool) -> tuple[int | None, int]:
    """(one attempt or None, else from this attempt on). The default is the latest, and what follows it.

    Who resumes gets the rest of the attempt it was reading, too: a retry may have begun in between.
    """
    if raw is None:
        return None, EVERY_ATTEMPT if resuming or task.attempt <= 1 else task.attempt
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


class _Silence:
    """How long a follower has heard nothing."""

    def __init__(self, longest_seconds: float) -> None:
        self._longest = longest_seconds
        self.broken()

    def broken(self) -> None:
        self._until = time.monotonic() + self._longest

    def left(self) -> float:
        return max(0.0, self._until - time.monotonic())


def _stream(
    here: Parts, task: ListedTask, wanted: Wanted, allowed: Permit, connection: socket.socket | None
) -> Iterator[bytes]:
    """Render what is there, and with `follow` what comes, until the task has ended or the reader is not allowed."""
    yield b""  # the headers go out now, not with the first record: that may come in an hour
    text = TextRenderer(wanted.stream)
    cursor = wanted.cursor
    silence = _Silence(here.keep_alive_seconds)
    for rows in _rows(here, task, wanted, silence.left):
        if not allowed.holds():
            raise ConnectionResetError(errno.ECONNRESET, f"the reader of task {task.id} has lost its access")
        rendered = _rendered([row for row in rows if wanted.takes(row)], wanted, cursor, text)
        if rows:
            cursor = max(cursor, rows[-1].record.last_seq)
        if not rendered and wanted.follow and not silence.left():  # rows that are not shown are silence, too
            if has_hung_up(connection):
                return
            rendered = KEEP_ALIVE if wanted.form == "sse" else b""
            silence.broken()
        if rendered:
            yield rendered
            silence.broken()
    if wanted.form == "text":
        yield text.rest()
    if wanted.form == "sse":
        yield _end(here, task.id, cursor)


def _rendered(rows: list[Row], wanted: Wanted, cursor: int, text: TextRenderer) -> bytes:
    if wanted.form == "text":
        return b"".join([text.render(row, cursor) for row in rows])
    return b"".join([row.render(wanted.form, wanted.stream, cursor) for row in rows])


def _rows(here: Parts, task: ListedTask, wanted: Wanted, silence_left: Callable[[], float]) -> Iterator[list[Row]]:
    if not wanted.follow:
        yield from _stored_rows(here, task, wanted)
        return

    def read(cursor: int, limit: int) -> list[Record]:
        return here.log_reader.after(task.id, cursor, limit=limit)

    def ended() -> bool:
        with here.product.database.read() as tx:
            now = tasks.look(tx, task.id)
        return now is None or now.is_terminal

    with here.hub.feed(task.id) as feed:
        yield from follow(feed, wanted.cursor, read=read, silence_left=silence_left, ended=ended)


def _stored_rows(here: Parts, task: ListedTask, wanted: Wanted) -> Iterator[list[Row]]:
    """What is stored now; what comes meanwhile is left to the next request."""
    cursor = wanted.cursor
    with here.product.database.read() as tx:
        last = journal.last_seq(tx, task.id)
    while cursor < last:
        page = here.log_reader.after(task.id, cursor, attempt=wanted.attempt)
        if not page:
            return
        for part in _parts(record for record in page if record.first_seq <= last):
            yield [Row(record) for record in part]
        cursor = page[-1].last_seq


def _parts(page: Iterable[Record]) -> Iterator[list[Record]]:
    """A page in parts: rendered, output of short lines is sixty times as long, and a page of it too much at once."""
    part: list[Record] = []
    size = 0
    for record in page:
        part.append(record)
        size += len(record.data or b"")
        if size >= RENDERED_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


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
