"""Read server-sent events so that no cut connection loses or repeats one: a task's log, the event stream.

The server gives every record a cursor; after a cut the next connection asks for what is behind the last
cursor that was handed on. Only its last record ends a log: a connection that closes before it was cut. The event
stream has no last one.
"""

from __future__ import annotations

import json
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError

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
MISSED_HEARTBEATS = 3
"""A connection of the event stream that is silent for so many intervals is dead."""
_ONLY_AT_FIRST = frozenset({"tail", "after"})
"""Parameters that a cursor replaces: the server lets `after` win over it, and `tail` would cut anew."""
ALWAYS_GIVEN = "exclude_preexisting"
"""Sent first with every request for the event stream, and always good: who refuses it knows no event stream."""

One = TypeVar("One")


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


@dataclass(frozen=True, slots=True)
class Event:
    """One frame of the event stream (contract §6), `body`, of the type `kind`.

    `cursor` resumes behind it; None in the snapshot of what was there before. `task_id` is None where the frame is
    about no task.
    """

    cursor: str | None
    kind: str
    task_id: str | None
    body: Json

    @property
    def is_preexisting(self) -> bool:
        """True in the snapshot: this is how a task was found, nothing has happened."""
        return self.body.get("preexisting") is True


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


class Follower(ABC, Generic[One]):
    """Iterates over what one address streams, across any number of connections.

    Raises `ServerRefused` and `NotFound` for what the server answers, `ServerUnreachable` when the first
    connection fails or a later absence outlasts `patience_seconds`, `WaitTimedOut` at the deadline.
    """

    what: ClassVar[str]
    """How messages call what is read."""

    def __init__(
        self,
        connection: Connection,
        path: str,
        params: dict[str, str],
        deadline: Deadline,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        """`silence_seconds`: a connection on which nothing comes for so long is dead."""
        self._connection = connection
        self._path = path
        self._params = params
        self._deadline = deadline
        self._patience_seconds = patience_seconds
        self._silence_seconds = silence_seconds
        self._cursor = ""
        self._answered = False
        self._failures = 0
        self._away_since: float | None = None

    @abstractmethod
    def _understood(self, event: ServerSentEvent) -> One | None:
        """Return what the event tells; None for one that is not ours (a comment's blank line)."""

    @abstractmethod
    def _is_last(self, one: One) -> bool:
        """Tell whether nothing can follow."""

    def __iter__(self) -> Iterator[One]:
        while True:
            try:
                for one in self._one_connection():
                    yield one
                    if self._is_last(one):
                        return
                    self._deadline.remaining()
                self._pause(httpx.RemoteProtocolError(f"the {self.what} ended before its end"))
            except httpx.ReadTimeout as error:
                self._after_silence(error)
            except (httpx.TransportError, httpx.DecodingError) as error:
                self._pause(error)
            except ServerRefused as error:
                if not error.may_pass:
                    raise
                self._pause(error)

    def _one_connection(self) -> Iterator[One]:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        params = self._params
        if self._cursor:
            headers["Last-Event-ID"] = self._cursor
            params = {key: value for key, value in params.items() if key not in _ONLY_AT_FIRST}
        with self._connection.stream(
            "GET", self._path, params=list(params.items()), headers=headers, read_seconds=self._silence()
        ) as response:
            self._answered, self._away_since = True, None
            yield from self._understood_of(response)

    def _understood_of(self, response: httpx.Response) -> Iterator[One]:
        """Decode one connection."""
        try:
            for event in EventSource(response).iter_sse():
                one = self._understood(event)
                if one is None:
                    continue
                self._failures = 0
                self._cursor = event.id or self._cursor
                yield one
        except SSEError as error:
            why = f"what listens there is not this product's {self.what} ({error})"
            raise ServerUnreachable(self._connection.server, why) from error

    def _silence(self) -> float:
        left = self._deadline.remaining()
        return self._silence_seconds if left is None else min(SLICE_SECONDS, left)

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


class LogFollower(Follower[LogRecord]):
    """Iterates over a log until its `end` record, which is yielded too."""

    what = "log"

    def _understood(self, event: ServerSentEvent) -> LogRecord | None:
        if event.event not in KINDS:
            return None
        body = _decoded(event.data)
        return LogRecord(event.id, event.event, {"data": event.data} if body is None else body)

    def _is_last(self, one: LogRecord) -> bool:
        return one.kind == "end"


class EventFollower(Follower[Event]):
    """Iterates over the event stream for ever, heartbeats included: the first one ends the snapshot.

    Raises `ServerRefused` when the server is too old to have one.
    """

    what = "event stream"

    def __init__(
        self,
        connection: Connection,
        path: str,
        params: dict[str, str],
        heartbeat_seconds: float,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`heartbeat_seconds`: how often the server says that it is there."""
        super().__init__(
            connection,
            path,
            params,
            Deadline("", None, clock),
            patience_seconds=patience_seconds,
            silence_seconds=MISSED_HEARTBEATS * heartbeat_seconds,
        )

    def _understood(self, event: ServerSentEvent) -> Event | None:
        body = _decoded(event.data)
        if body is None or not isinstance(body.get("type"), str):
            return None
        return Event(body.get("id"), body["type"], body.get("task_id"), body)

    def _is_last(self, one: Event) -> bool:  # noqa: ARG002 - no frame is
        return False

    def _one_connection(self) -> Iterator[Event]:
        try:
            yield from super()._one_connection()
        except ServerRefused as error:
            if not _knows_no_event_stream(error, self._params):
                raise
            raise ServerRefused(
                error.status,
                error.error,
                f"the server at {self._connection.server} has no event stream: it is older than this client. "
                "Upgrade it, or use a client of its version.",
                request_id=error.request_id,
                body=error.body,
            ) from error

    def _understood_of(self, response: httpx.Response) -> Iterator[Event]:
        """A snapshot counts once it is whole: after a cut in it, the next connection brings another one."""
        snapshot: list[Event] = []
        for event in super()._understood_of(response):
            if not self._cursor:
                snapshot.append(event)
                continue
            yield from snapshot
            snapshot.clear()
            yield event


def _knows_no_event_stream(error: ServerRefused, params: dict[str, str]) -> bool:
    """To an older server the address is that of a task called `stream`, which takes no parameters."""
    if error.status == httpx.codes.NOT_FOUND:
        return error.error != "task_not_found" or "task_id" not in params
    details = error.details if isinstance(error.details, dict) else {}
    return error.error == "invalid_parameter" and details.get("parameter") == ALWAYS_GIVEN


def _decoded(data: str) -> Json | None:
    """Return the object of one event, None when it holds none; one cut in half never gets here, its blank line is
    missing."""
    try:
        body = json.loads(data)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None
