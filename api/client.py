"""The Python client of the task API: one method for each thing a user can ask of the server."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from api.client_errors import (
    ChecksumMismatch,
    ClientError,
    DownloadFailed,
    NotFound,
    ServerRefused,
    ServerUnreachable,
    UnsafeName,
    WaitTimedOut,
)
from api.client_webhooks import Webhooks
from api.connection import Connection, Json, given, path_of
from api.downloads import Download, Downloaded, Progress
from api.following import ALWAYS_GIVEN, Deadline, Event, EventFollower, LogFollower, LogRecord
from orchestrator.states import TERMINAL

__all__ = [
    "ChecksumMismatch",
    "Client",
    "ClientError",
    "DownloadFailed",
    "Downloaded",
    "Event",
    "LogRecord",
    "NotFound",
    "ServerRefused",
    "ServerUnreachable",
    "UnsafeName",
    "WaitTimedOut",
]

API = "/api/v1"
CANCEL_WAIT_SECONDS = 15
HEARTBEAT_INTERVAL_MS = 30_000
_JSON_BODY = {"Content-Type": "application/json"}
_TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Client:
    """Speaks to one server; use it in a `with` block, or `close()` it.

    Every method raises `ServerUnreachable` when no usable answer comes, `NotFound` for 404 and
    `ServerRefused` for any other error the server answers. Answers are the contract's objects (§3).
    `webhooks` has the methods about webhooks.
    """

    def __init__(
        self,
        server: str,
        token: str | None = None,
        *,
        ca_file: Path | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`server` is the base URL; `ca_file` holds the authorities to believe in instead of the usual ones.

        `transport` and `sleep` replace the network and waiting in tests.
        """
        self._connection = Connection(server, token, ca_file=ca_file, transport=transport, sleep=sleep)
        self.webhooks = Webhooks(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Safe to call again."""
        self._connection.close()

    def submit(
        self,
        body: bytes,
        content_type: str = "application/yaml",
        *,
        dry_run: bool = False,
        idempotency_key: str | None = None,
    ) -> Json:
        """Submit a manifest; return the acceptance, or with `dry_run` the manifest with defaults filled in.

        With `idempotency_key` the request is sent again when the connection breaks: one task, in any case.
        """
        headers = {"Content-Type": content_type}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        return self._connection.json(
            "POST",
            f"{API}/tasks",
            params=[("dry_run", "true")] if dry_run else [],
            headers=headers,
            content=body,
            repeatable=dry_run or idempotency_key is not None,
        )

    def list(
        self,
        *,
        states: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        limit: int | None = None,
        offset: int | None = None,
        sort: str | None = None,
        order: str | None = None,
    ) -> Json:
        """Return one page of tasks that are in one of `states` and carry all `labels`."""
        params = [("state", ",".join(states))] if states else []
        params += [("label", f"{key}={value}") for key, value in (labels or {}).items()]
        params += given(limit=limit, offset=offset, sort=sort, order=order)
        return self._connection.json("GET", f"{API}/tasks", params=params, repeatable=True)

    def get(self, task_id: str) -> Json:
        """Return everything that is known about one task."""
        return self._connection.json("GET", _path(task_id), repeatable=True)

    def cancel(
        self,
        task_id: str,
        *,
        reason: str | None = None,
        force: bool = False,
        wait: int = CANCEL_WAIT_SECONDS,
        children: bool = False,
    ) -> Json:
        """Ask for the cancellation and wait up to `wait` seconds for the fact (contract §4)."""
        params = [("reason", reason)] if reason is not None else []
        params += [(key, "true") for key, on in (("force", force), ("children", children)) if on]
        params.append(("wait", str(wait)))
        return self._connection.json("DELETE", _path(task_id), params=params, read_seconds=wait + 30.0, repeatable=True)

    def purge(self, task_id: str) -> None:
        """Remove log, artifacts and preserved sandbox of a task that has ended."""
        self._connection.request("DELETE", f"{_path(task_id)}/data", read_seconds=300.0, repeatable=True)

    def rerun(
        self, task_id: str, patch: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None
    ) -> Json:
        """Start a new task with the definition of this one, changed by the JSON merge patch `patch`.

        With `idempotency_key` the request is sent again when the connection breaks: one task, in any case.
        """
        key = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        kind = {} if patch is None else {"Content-Type": "application/merge-patch+json"}
        return self._connection.json(
            "POST",
            f"{_path(task_id)}/rerun",
            headers={**kind, **key},
            content=None if patch is None else json.dumps(patch).encode(),
            repeatable=idempotency_key is not None,
        )

    def send(self, task_id: str, text: str) -> Json:
        """Send a message to the task's interactive agent; return the number under which it is stored."""
        return self._input(task_id, {"text": text})

    def answer(self, task_id: str, answer: str, *, question: str | None = None) -> Json:
        """Answer what the agent asks: the question of this id, or the only one it waits for."""
        return self._input(task_id, {"answer": answer} | ({"id": question} if question is not None else {}))

    def _input(self, task_id: str, body: Json) -> Json:
        return self._connection.json(
            "POST", f"{_path(task_id)}/input", headers=_JSON_BODY, content=json.dumps(body).encode()
        )

    def resume(self, task_id: str, prompt: str | None = None, *, idempotency_key: str | None = None) -> Json:
        """Start a new task that goes on from the workspace and the agent session of this one, which has ended.

        With `idempotency_key` the request is sent again when the connection breaks: one task, in any case.
        """
        key = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return self._connection.json(
            "POST",
            f"{_path(task_id)}/resume",
            headers={**_JSON_BODY, **key},
            content=json.dumps({} if prompt is None else {"prompt": prompt}).encode(),
            repeatable=idempotency_key is not None,
        )

    def logs(
        self,
        task_id: str,
        *,
        follow: bool = False,
        stream: str = "all",
        since: str | None = None,
        tail: int | None = None,
        after: str | None = None,
        attempt: str | int | None = None,
        timeout_seconds: float | None = None,
    ) -> Iterator[LogRecord]:
        """Yield the records of a log, the last one `end`; cut connections resume without loss or repeat.

        `stream` is `all`, or some of `stdout`, `stderr`, `events`, `system` with commas between them; `since` is
        RFC 3339, `tail` a number of lines (0 = all), `after` a cursor, `attempt` a number or `all`. Raises
        `WaitTimedOut` when `timeout_seconds` pass first.
        """
        options = {"since": since, "tail": tail, "after": after, "attempt": attempt}
        return self._log(Deadline(task_id, timeout_seconds), stream, follow, options)

    def _log(
        self, deadline: Deadline, stream: str, follow: bool, options: Mapping[str, str | int | None]
    ) -> Iterator[LogRecord]:
        params = {"format": "sse", "stream": stream} | ({"follow": "true"} if follow else {})
        params |= {key: str(value) for key, value in options.items() if value is not None}
        return iter(LogFollower(self._connection, f"{_path(deadline.task_id)}/logs", params, deadline))

    def events(
        self,
        task_id: str | None = None,
        *,
        filters: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        states: Sequence[str] = (),
        parent_id: str | None = None,
        exclude_preexisting: bool = False,
        heartbeat_interval_ms: int = HEARTBEAT_INTERVAL_MS,
        rate_limit_ms: int = 0,
        after: str | None = None,
        heartbeats: bool = False,
    ) -> Iterator[Event]:
        """Yield what happens to all tasks, or to those asked for, as it happens (contract §6); it does not end.

        First comes, for each task that has not ended, the state that it is in, unless `exclude_preexisting` or `after`,
        a cursor, is given. `filters` are the types wanted, by default all. Cut connections resume without loss or
        repeat; one that is silent for three heartbeats was cut. With `heartbeats` those are yielded, too: the first one
        says that all tasks that were there have been named.
        """
        params = {ALWAYS_GIVEN: "true" if exclude_preexisting else "false"}
        params |= {"heartbeat_interval_ms": str(heartbeat_interval_ms)}
        optional = {"task_id": task_id, "filter": ",".join(filters), "state": ",".join(states), "parent_id": parent_id}
        optional |= {"rate_limit_ms": str(rate_limit_ms) if rate_limit_ms else None, "after": after}
        params |= {key: value for key, value in optional.items() if value}
        params |= {f"label.{key}": value for key, value in (labels or {}).items()}
        follower = EventFollower(self._connection, f"{API}/tasks/stream", params, heartbeat_interval_ms / 1000)
        return (event for event in follower if heartbeats or event.kind != "heartbeat")

    def wait_for_end(
        self,
        task_id: str,
        *,
        timeout_seconds: float | None = None,
        stream: str = "events",
        on_record: Callable[[LogRecord], None] = lambda _: None,
    ) -> Json:
        """Wait until the task is in a terminal state and return it; every record goes to `on_record`.

        Raises `WaitTimedOut` when `timeout_seconds` pass first; the task is not affected.
        """
        deadline = Deadline(task_id, timeout_seconds)
        after: str | None = None
        while True:
            for record in self._log(deadline, stream, True, {"attempt": "all", "after": after}):
                after = record.cursor or after
                if record.kind != "end":
                    on_record(record)
            task = self.get(task_id)
            if task["state"] in TERMINAL:
                return task
            deadline.remaining()
            self._connection.sleep(1.0)  # the log's end was seen before the row's: look again

    def artifacts(self, task_id: str, *, attempt: int | None = None) -> Json:
        """Return the list of the task's artifacts: of its latest attempt, or of `attempt`."""
        params = {"attempt": str(attempt)} if attempt is not None else {}
        return self._connection.json("GET", f"{_path(task_id)}/artifacts", params=params, repeatable=True)

    def download(
        self,
        task_id: str,
        name: str,
        target: Path,
        *,
        verify: bool = True,
        checksum: str | None = None,
        attempt: int | None = None,
        on_progress: Progress | None = None,
    ) -> Downloaded:
        """Bring one artifact (its path, or a base name only one has) of the latest or that attempt to `target`.

        A transfer that breaks off resumes, in this call and in a later one. `checksum` is the list's
        `sha256:<hex>`, compared with what the server sends. Raises `DownloadFailed` and its kinds. When
        `name` comes from a server, take `target` from `partial_file.target_below`.
        """
        which = "" if attempt is None else f"?attempt={attempt}"
        path = f"{_path(task_id)}/artifacts/{quote(name, safe='/')}{which}"
        return Download(self._connection, path, target, verify, checksum, on_progress).run()

    def network(self, task_id: str) -> Json:
        """Return what the task's sandbox was refused on the network, and how many bytes it sent and got."""
        return self._connection.json("GET", f"{_path(task_id)}/network", repeatable=True)

    def workers(self) -> Json:
        """Return the fleet."""
        return self._connection.json("GET", f"{API}/workers", repeatable=True)

    def worker(self, name: str) -> Json:
        """Return what is known about one worker."""
        return self._connection.json("GET", path_of("worker", name), repeatable=True)

    def drain_worker(self, name: str, *, deadline: str | None = None) -> Json:
        """Let a worker finish what it has and take nothing new; return it.

        What still runs after `deadline` (a duration, `30m`) is ended; without one, nothing is.
        """
        params = [("deadline", deadline)] if deadline is not None else []
        return self._connection.json("POST", f"{path_of('worker', name)}/drain", params=params, repeatable=True)

    def resume_worker(self, name: str) -> Json:
        """End a drain; return the worker."""
        return self._connection.json("POST", f"{path_of('worker', name)}/resume", repeatable=True)

    def remove_worker(self, name: str, *, force: bool = False) -> None:
        """Forget a worker that does not run any more; `force`: its host is gone for good, its attempts are lost."""
        params = [("force", "true")] if force else []
        self._connection.request("DELETE", path_of("worker", name), params=params)


def _path(task_id: str) -> str:
    """Return the address of a task; an id that no task can have must not reach another address."""
    if not _TASK_ID.fullmatch(task_id) or task_id == "stream":
        raise NotFound(404, "task_not_found", f"there is no task {task_id!r}: no task can have this id.")
    return f"{API}/tasks/{task_id}"
