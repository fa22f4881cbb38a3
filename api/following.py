"""Read a task's log over SSE so that no cut connection loses or repeats a record.

The server gives every record a cursor; after a cut the next connection asks for what is behind the last
cursor that was handed on. Only the record `end` ends the log: a connection that closes before it was cut.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
from httpx_sse import EventSource, SSEError

from api.client_errors import ServerRefused, ServerUnreachable, WaitTimedOut
from api.connection import Connection, Json

KINDS = frozenset({"stdout", "stderr", "event", "system", "gap", "end"})
SILENCE_SECONDS = 45.0
"""The server sends a comment every 15 s; a connection silent for three of them is dead."""
SLICE_SECONDS = 10.0
"""With a deadline, how long one connection may be silent: shorter than the comments, so that we can look at
the clock."""
PATIENCE_SECONDS = 300.0
"""How long the server may stay away once it has answered: an upgrade takes less."""
LONGEST_PAUSE_SECONDS = 10.0
_ONLY_AT_FIRST = frozenset({"tail", "after"})
"""Parameters that a cursor replaces: the server lets `after` win over it, and `tail` would cut anew."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record of a log (contract §5). `cursor` resumes behind it, `body` is the decoded object."""

    cursor: str
    kind: str
    body: Json

    @property
    def data(self) -> str:
        """The output as printed; empty for records that carry none."""
        return str(self.body.get("data") or "")


class Deadline:
    """The caller's limit for waiting, on the monotonic clock; None waits for ever."""

    def __init__(
        self, task_id: str, timeout_seconds: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.task_id = task_id
        self.timeout_seconds = timeout_seconds
        self.clock = clock
        self._at = None if timeout_seconds is None else clock() + timeout_seconds

    def remaining(self) -> float | None:
        """Return the seconds that are left, None without a limit; raise `WaitTimedOut` when none are."""
        if self._at is None or self.timeout_seconds is None:
            return None
        left = self._at - self.clock()
        if left <= 0:
            raise WaitTimedOut(self.task_id, self.timeout_seconds)
        return left


class LogFollower:
    """Iterates over a log until its `end` record, which is yielded too.

    Raises `ServerRefused` and `NotFound` for what the server answers, `ServerUnreachable` when the first
    connection fails or a later absence outlasts `patience_seconds`, `WaitTimedOut` at the deadline.
    """

    def __init__(
        self,
        connection: Connection,
        path: str,
        params: dict[str, str],
        deadline: Deadline,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._connection = connection
        self._path = path
        self._params = params
        self._deadline = deadline
        self._patience_seconds = patience_seconds
        self._cursor = ""
        self._answered = False
        self._failures = 0
        self._away_since: float | None = None

    def __iter__(self) -> Iterator[LogRecord]:
        while True:
            try:
                for record in self._one_connection():
                    yield record
                    if record.kind == "end":
                        return
                    self._deadline.remaining()
                self._pause(httpx.RemoteProtocolError("the log ended before its end"))
            except httpx.ReadTimeout as error:
                self._after_silence(error)
            except (httpx.TransportError, httpx.DecodingError) as error:
                self._pause(error)
            except ServerRefused as error:
                if not error.may_pass:
                    raise
                self._pause(error)

    def _one_connection(self) -> Iterator[LogRecord]:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        params = self._params
        if self._cursor:
            headers["Last-Event-ID"] = self._cursor
            params = {key: value for key, value in params.items() if key not in _ONLY_AT_FIRST}
        with self._connection.stream(
            "GET", self._path, params=list(params.items()), headers=headers, read_seconds=self._silence()
        ) as response:
            self._answered, self._away_since = True, None
            yield from self._records(response)

    def _records(self, response: httpx.Response) -> Iterator[LogRecord]:
        """Decode one connection. What is not one of our events (a comment's blank line) is passed over."""
        try:
            for event in EventSource(response).iter_sse():
                if event.event not in KINDS:
                    continue
                record = LogRecord(event.id, event.event, _decoded(event.data))
                self._failures = 0
                self._cursor = event.id or self._cursor
                yield record
        except SSEError as error:
            why = f"what listens there is not this product's log ({error})"
            raise ServerUnreachable(self._connection.server, why) from error

    def _silence(self) -> float:
        left = self._deadline.remaining()
        return SILENCE_SECONDS if left is None else min(SLICE_SECONDS, left)

    def _after_silence(self, error: httpx.ReadTimeout) -> None:
        """A slice of waiting went by, or the connection is dead."""
        if self._deadline.remaining() is None or not self._answered:
            self._pause(error)

    def _pause(self, error: Exception) -> None:
        """Wait before the next connection; raise when there is no point in one."""
        if not self._answered:
            raise error if isinstance(error, ServerRefused) else self._connection.unreachable(error)
        now = self._deadline.clock()
        self._away_since = now if self._away_since is None else self._away_since
        if now - self._away_since > self._patience_seconds:
            raise self._connection.unreachable(error)
        pause = min(LONGEST_PAUSE_SECONDS, 0.5 * 2 ** min(self._failures, 10))
        self._failures += 1
        if isinstance(error, ServerRefused) and error.retry_after_seconds:
            pause = min(60.0, error.retry_after_seconds)
        else:
            pause *= random.uniform(0.5, 1)  # noqa: S311 - spreads many readers out, guards nothing
        left = self._deadline.remaining()
        self._connection.sleep(pause if left is None else min(pause, left))
        self._deadline.remaining()


def _decoded(data: str) -> Json:
    """Return the object of one event; a record cut in half never gets here, its blank line is missing."""
    try:
        body = json.loads(data)
    except ValueError:
        body = None
    return body if isinstance(body, dict) else {"data": data}
