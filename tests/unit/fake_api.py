"""A strict stand-in for the server: real sockets, the contract's shapes, connections cut on demand.

It refuses what the contract does not know (paths, parameters, content types), so that a client that sends
something else fails its test.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

AT = "2026-01-29T10:15:02.131207Z"
LOG_PARAMS = {"follow", "stream", "since", "tail", "after", "attempt", "format"}
LIST_PARAMS = {"state", "label", "limit", "offset", "sort", "order"}
STREAM_PARAMS = {
    "task_id", "filter", "state", "parent_id", "exclude_preexisting", "heartbeat_interval_ms", "rate_limit_ms", "after",
}  # fmt: skip
ENDED = {"completed", "failed", "failed_preserved", "cancelled"}
YAML = {"application/yaml", "application/json"}
PATCH = {"application/merge-patch+json"}


@dataclass
class Seen:
    """One request that arrived."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes


@dataclass
class Refusal(Exception):
    """What a route raises to answer an error."""

    status: int
    error: str
    message: str
    more: dict[str, Any] = field(default_factory=dict)


def task(task_id: str, state: str = "running", **changes: Any) -> dict[str, Any]:
    """Return a task as `GET /tasks/{id}` shows it."""
    return {
        "id": task_id,
        "task_id": task_id,
        "name": "A task",
        "state": state,
        "state_message": None,
        "labels": {"team": "platform"},
        "created_at": AT,
        "started_at": AT,
        "state_changed_at": AT,
        "finished_at": None,
        "exit_code": None,
        "worker": "host-1",
        "attempt": 1,
        "attempts": [{"attempt": 1, "state": state}],
        "progress": {"output_bytes": 2048, "current_tool": None},
        "outcome": None,
        "definition": {"version": "1", "run": {"command": ["sh", "-c", "true"]}, "vm": {"memory": "1G"}},
        **changes,
    }


def worker(name: str = "h1", state: str = "active", **changes: Any) -> dict[str, Any]:
    """Return a worker as `GET /workers/{name}` shows it."""
    return {
        "name": name,
        "state": state,
        "draining": False,
        "drain_until": None,
        "version": "0.1.0",
        "capacity": {"slots": 4, "cpus": 8, "memory_bytes": 8 << 30, "disk_bytes": 100 << 30},
        "used": {"slots": 1, "cpus": 2.5, "memory_bytes": 1 << 30, "disk_bytes": 0},
        "task_ids": [],
        "profiles": ["basic"],
        "network_modes": ["isolated"],
        "agents": ["run"],
        "trouble": None,
        "registered_at": AT,
        "last_heartbeat_at": AT,
        **changes,
    }


def line(text: str, stream: str = "stdout") -> tuple[str, dict[str, Any]]:
    """Return a record of output."""
    return stream, {"timestamp": AT, "stream": stream, "data": text}


def change(old: str, new: str, message: str | None = None) -> tuple[str, dict[str, Any]]:
    """Return the record of a state change."""
    body = {"timestamp": AT, "stream": "event", "type": "state_change"}
    return "event", {**body, "previous_state": old, "new_state": new, "state_message": message}


def event(type_: str, **body: Any) -> tuple[str, dict[str, Any]]:
    """Return the record of something that an agent tells."""
    return "event", {"timestamp": AT, "stream": "event", "type": type_, **body}


def frame(type_: str, task_id: str | None, **body: Any) -> dict[str, Any]:
    """Return a frame of the event stream; the server numbers it."""
    about = {} if task_id is None else {"task_id": task_id, "attempt": 1}
    return {"type": type_, **about, "timestamp": AT, **body}


def changed(task_id: str, old: str | None, new: str, message: str | None = None, **more: Any) -> dict[str, Any]:
    """Return the frame of a state change."""
    about = {"name": "A task", "labels": {"team": "platform"}, "parent_id": None}
    told = {"previous_state": old, "new_state": new, "state_message": message}
    return frame("state_change", task_id, **{**told, **about, **more})


def end(state: str, exit_code: int | None) -> tuple[str, dict[str, Any]]:
    """Return the last record of a log."""
    return "end", {"timestamp": AT, "state": state, "exit_code": exit_code}


class FakeApi:
    """The server. Set its attributes, then use it as a context manager; `url` is where it listens."""

    def __init__(self) -> None:
        self.tasks: dict[str, dict[str, Any]] = {}
        self.records: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        self.artifacts: dict[str, dict[str, bytes]] = {}
        self.networks: dict[str, dict[str, Any]] = {}
        self.workers: list[dict[str, Any]] = []
        self.worker_changes: list[dict[str, Any]] = []
        self.inputs: list[dict[str, Any]] = []
        self.seen: list[Seen] = []
        self.frames: list[dict[str, Any]] = []
        self.has_event_stream = True
        self.cut_logs_after: list[int] = []
        self.cut_streams_after: list[int] = []
        self.cut_bytes_after: list[int] = []
        self.on_submit: Callable[[Seen], dict[str, Any]] = lambda _: task("task-001", "pending")
        self.corrupt = False
        self.cancel_state = "cancelled"
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.api = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def requests(self, method: str, ending: str) -> list[Seen]:
        """Return the requests of one method whose path ends so."""
        return [one for one in self.seen if one.method == method and one.path.endswith(ending)]


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    api: FakeApi


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def handle(self) -> None:
        try:
            super().handle()
        except (BrokenPipeError, ConnectionResetError):  # the client went away, as some tests want
            self.close_connection = True

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_GET  # noqa: N815 - the base class calls these
    do_POST = do_GET  # noqa: N815
    do_DELETE = do_GET  # noqa: N815

    def _answer(self) -> None:
        split = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {key.lower(): value for key, value in self.headers.items()}
        seen = Seen(self.command, split.path, parse_qsl(split.query, keep_blank_values=True), headers, body)
        self.server.api.seen.append(seen)
        try:
            self._route(seen)
        except Refusal as error:
            known = {"error": error.error, "message": error.message, "request_id": "req-1"}
            self._json(error.status, {**known, **error.more})

    def _route(self, seen: Seen) -> None:
        if not seen.path.startswith("/api/v1/"):
            raise Refusal(404, "not_found", f"there is no {seen.path}")
        path = seen.path.removeprefix("/api/v1")
        for pattern, routes in _ROUTES:
            if found := re.fullmatch(pattern, path):
                route = routes.get("GET" if seen.method == "HEAD" else seen.method)
                if route is None:
                    raise Refusal(405, "method_not_allowed", f"no {seen.method} here")
                route(self, seen, *(unquote(part) for part in found.groups()))
                return
        raise Refusal(404, "not_found", f"there is no {seen.path}")

    def _json(self, status: int, body: Any) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def _task(self, task_id: str) -> dict[str, Any]:
        try:
            return self.server.api.tasks[task_id]
        except KeyError:
            raise Refusal(404, "task_not_found", f"there is no task {task_id}.") from None

    def submit(self, seen: Seen) -> None:
        _only(seen, {"dry_run"}, YAML)
        if ("dry_run", "true") in seen.query:
            self._json(200, {"version": "1", "kind": "Task", "vm": {"cpus": 4}})
            return
        made = self.server.api.on_submit(seen)
        self.server.api.tasks.setdefault(made["task_id"], made)
        self._json(202, {"task_id": made["task_id"], "state": "pending", "message": "accepted", "created_at": AT})

    def list_tasks(self, seen: Seen) -> None:
        _only(seen, LIST_PARAMS)
        tasks = list(self.server.api.tasks.values())
        self._json(200, {"tasks": tasks, "total_count": len(tasks) + 1, "limit": 100, "offset": 0, "has_more": True})

    def get(self, seen: Seen, task_id: str) -> None:
        _only(seen, set())
        self._json(200, self._task(task_id))

    def cancel(self, seen: Seen, task_id: str) -> None:
        _only(seen, {"reason", "force", "wait", "children"})
        found = self._task(task_id)
        if found["state"] in {"completed", "failed", "cancelled"}:
            more = {"task_state": found["state"]}
            raise Refusal(409, "task_already_terminal", f"task {task_id} has ended.", more)
        state = self.server.api.cancel_state
        answer = {"success": True, "task_id": task_id, "previous_state": found["state"], "new_state": state}
        if state == "cancelled":
            self._json(200, {**answer, "message": "cancelled", "cancelled_at": AT})
        else:
            self._json(202, {**answer, "message": "requested", "cancel": {"phase": "stopping"}})

    def purge(self, seen: Seen, task_id: str) -> None:
        _only(seen, set())
        self._task(task_id)
        self.send_response(204)
        self.end_headers()

    def rerun(self, seen: Seen, task_id: str) -> None:
        _only(seen, set(), PATCH)
        self._task(task_id)
        self.submit_rerun(seen)

    def submit_rerun(self, seen: Seen) -> None:
        made = self.server.api.on_submit(seen)
        self.server.api.tasks.setdefault(made["task_id"], made)
        self._json(202, {"task_id": made["task_id"], "state": "pending", "message": "accepted", "created_at": AT})

    def send_input(self, seen: Seen, task_id: str) -> None:
        _only(seen, set(), {"application/json"})
        self._task(task_id)
        body = json.loads(seen.body)
        if set(body) not in ({"text"}, {"answer"}, {"id", "answer"}):
            raise Refusal(400, "invalid_parameter", f"either text or answer, not {sorted(body)}.")
        self.server.api.inputs.append(body)
        number = len(self.server.api.inputs)
        self._json(202, {"task_id": task_id, "number": number, "message": f"input {number} is stored"})

    def resume(self, seen: Seen, task_id: str) -> None:
        _only(seen, set(), {"application/json"})
        if not any((one.get("session") or {}).get("resumable") for one in self._task(task_id)["attempts"]):
            raise Refusal(409, "session_not_kept", f"task {task_id} cannot be resumed: no session of it is stored.")
        self.submit_rerun(seen)

    def logs(self, seen: Seen, task_id: str) -> None:
        _only(seen, LOG_PARAMS)
        self._task(task_id)
        query = dict(seen.query)
        after = int(query.get("after") or seen.headers.get("last-event-id") or 0)
        streams = query.get("stream", "all").split(",")
        if unknown := set(streams) - {"all", "stdout", "stderr", "events", "system"}:
            raise Refusal(400, "invalid_parameter", f"no streams: {unknown}.")
        wanted = None if streams == ["all"] else {one.removesuffix("s") for one in streams} | {"gap", "end"}
        numbered = list(enumerate(self.server.api.records.get(task_id, []), 1))
        found = [(seq, one) for seq, one in numbered if seq > after and (wanted is None or one[0] in wanted)]
        if int(query.get("tail", "0")):
            found = found[-int(query["tail"]) - 1 :]
        self._stream(found, query.get("follow") == "true")

    def _stream(self, found: list[tuple[int, tuple[str, dict[str, Any]]]], follow: bool) -> None:
        cuts = self.server.api.cut_logs_after
        limit = cuts.pop(0) if cuts else None
        self._open_stream()
        self._chunk(": keep-alive\n\n")
        for count, (seq, (kind, body)) in enumerate(found):
            event = f"id: {seq}\nevent: {kind}\ndata: {json.dumps({'seq': seq, **body})}\n\n"
            if limit is not None and count >= limit:
                self._chunk(event[: len(event) // 2])
                self.close_connection = True
                return
            self._chunk(event + ": keep-alive\n\n")
        if follow and not (found and found[-1][1][0] == "end"):
            self.server.api.closing.wait()
            self.close_connection = True
            return
        self.wfile.write(b"0\r\n\r\n")

    def events(self, seen: Seen) -> None:
        """All frames come after the snapshot; those added later come when they are there."""
        api = self.server.api
        query = dict(seen.query)
        if not api.has_event_stream:  # the address is that of a task, which takes no parameters
            more = {"details": {"parameter": seen.query[0][0]}}
            raise Refusal(400, "invalid_parameter", f"unknown parameter {seen.query[0][0]!r}.", more)
        _only(seen, STREAM_PARAMS | {name for name, _ in seen.query if name.startswith("label.")})
        if "task_id" in query:
            self._task(query["task_id"])
        after = seen.headers.get("last-event-id") or query.get("after")
        begin: list[tuple[str | None, dict[str, Any]]] = []
        if not after:
            begin += [(None, one) for one in self._snapshot(query)]
        sent = int(after.partition("-")[2]) if after else 0
        begin.append((f"0-{sent}", frame("heartbeat", None)))
        self._open_stream()
        cuts = api.cut_streams_after
        left = cuts.pop(0) if cuts else -1
        while not api.closing.is_set():
            begin += [(f"0-{at}", one) for at, one in enumerate(api.frames[sent:], sent + 1)]
            sent = len(api.frames)
            for cursor, one in begin:
                if not self._is_wanted(one, query):
                    continue
                head = f"id: {cursor}\n" if cursor else ""
                text = f"{head}event: {one['type']}\ndata: {json.dumps({'id': cursor, **one})}\n\n"
                if left == 0:
                    self._chunk(text[: len(text) // 2])
                    self.close_connection = True
                    return
                left -= 1
                self._chunk(text)
            begin = []
            api.closing.wait(0.01)
        self.close_connection = True

    def _snapshot(self, query: dict[str, str]) -> list[dict[str, Any]]:
        if query.get("exclude_preexisting") == "true":
            return []
        living = [one for one in self.server.api.tasks.values() if one["state"] not in ENDED]
        return [changed(one["id"], None, one["state"], one["state_message"], preexisting=True) for one in living]

    def _is_wanted(self, one: dict[str, Any], query: dict[str, str]) -> bool:
        """As the server picks, but for states, which need a memory; what is about no task is for all."""
        if "task_id" not in one:
            return True
        labels = {name.removeprefix("label."): value for name, value in query.items() if name.startswith("label.")}
        carried = self.server.api.tasks.get(one["task_id"], {}).get("labels", {})
        if query.get("task_id", one["task_id"]) != one["task_id"] or not labels.items() <= carried.items():
            return False
        return one["type"] in {"gap", *query.get("filter", one["type"]).split(",")}

    def _open_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, text: str) -> None:
        raw = text.encode()
        self.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
        self.wfile.flush()

    def network(self, seen: Seen, task_id: str) -> None:
        _only(seen, set())
        self._task(task_id)
        self._json(200, self.server.api.networks[task_id])

    def artifacts(self, seen: Seen, task_id: str) -> None:
        _only(seen, set())
        self._task(task_id)
        held = self.server.api.artifacts.get(task_id, {})
        listed = [
            {
                "name": path.rsplit("/", 1)[-1],
                "path": path,
                "size_bytes": len(data),
                "content_type": "text/plain",
                "checksum": f"sha256:{hashlib.sha256(data).hexdigest()}",
                "created_at": AT,
            }
            for path, data in held.items()
        ]
        self._json(200, {"task_id": task_id, "artifacts": listed, "total_count": len(listed)})

    def artifact(self, seen: Seen, task_id: str, name: str) -> None:
        _only(seen, set())
        held = self.server.api.artifacts.get(task_id, {})
        same = [path for path in held if path == name or path.rsplit("/", 1)[-1] == name]
        if name not in held and len(same) > 1:
            raise Refusal(409, "ambiguous_artifact_name", f"several artifacts are called {name}: {same}.")
        if not same:
            raise Refusal(404, "artifact_not_found", f"task {task_id} has no artifact {name}.")
        self._bytes(seen, held[name if name in held else same[0]])

    def _bytes(self, seen: Seen, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()
        sent = bytes(len(data)) if self.server.api.corrupt else data
        found = re.fullmatch(r"bytes=(\d+)-", seen.headers.get("range", ""))
        begin = int(found[1]) if found and seen.headers.get("if-range") in {None, f'"{digest}"'} else 0
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - begin))
        self.send_header("ETag", f'"{digest}"')
        self.send_header("X-Checksum-SHA256", digest)
        self.end_headers()
        if self.command == "HEAD":
            return
        cuts = self.server.api.cut_bytes_after
        rest = sent[begin:]
        if cuts:
            rest = rest[: cuts.pop(0)]
            self.close_connection = True
        self.wfile.write(rest)

    def list_workers(self, seen: Seen) -> None:
        _only(seen, set())
        self._json(200, {"workers": self.server.api.workers})

    def _worker(self, name: str) -> dict[str, Any]:
        for one in self.server.api.workers:
            if one["name"] == name:
                return one
        raise Refusal(404, "worker_not_found", f"no worker named {name} is registered.")

    def get_worker(self, seen: Seen, name: str) -> None:
        _only(seen, set())
        self._json(200, self._worker(name))
        if self.server.api.worker_changes:
            self._worker(name).update(self.server.api.worker_changes.pop(0))

    def drain_worker(self, seen: Seen, name: str) -> None:
        _only(seen, {"deadline"})
        found = self._worker(name)
        until = AT if dict(seen.query).get("deadline") else None
        shown = "draining" if found["task_ids"] else "drained"
        found.update(draining=True, drain_until=until, state=_while_running(found, shown))
        self._json(200, found)

    def resume_worker(self, seen: Seen, name: str) -> None:
        _only(seen, set())
        found = self._worker(name)
        found.update(draining=False, drain_until=None, state=_while_running(found, "active"))
        self._json(200, found)

    def remove_worker(self, seen: Seen, name: str) -> None:
        _only(seen, {"force"})
        found = self._worker(name)
        if found["state"] not in {"stopped", "lost"} or (found["task_ids"] and not seen.query):
            raise Refusal(409, "worker_in_use", f"worker {name} is {found['state']}: drain it and stop it.")
        self.server.api.workers.remove(found)
        self.send_response(204)
        self.end_headers()


def _while_running(found: dict[str, Any], state: str) -> str:
    return str(found["state"]) if found["state"] in {"stopped", "lost"} else state


def _only(seen: Seen, params: set[str], content_types: set[str] | None = None) -> None:
    unknown = {key for key, _ in seen.query} - params
    if unknown:
        raise Refusal(400, "invalid_parameter", f"unknown parameters {unknown}.")
    if content_types is not None and seen.body and seen.headers.get("content-type") not in content_types:
        raise Refusal(415, "unsupported_content_type", f"{seen.headers.get('content-type')} is not supported.")


_ROUTES: list[tuple[str, dict[str, Callable[..., None]]]] = [
    (r"/tasks", {"GET": _Handler.list_tasks, "POST": _Handler.submit}),
    (r"/tasks/stream", {"GET": _Handler.events}),
    (r"/tasks/([^/]+)", {"GET": _Handler.get, "DELETE": _Handler.cancel}),
    (r"/tasks/([^/]+)/data", {"DELETE": _Handler.purge}),
    (r"/tasks/([^/]+)/rerun", {"POST": _Handler.rerun}),
    (r"/tasks/([^/]+)/input", {"POST": _Handler.send_input}),
    (r"/tasks/([^/]+)/resume", {"POST": _Handler.resume}),
    (r"/tasks/([^/]+)/network", {"GET": _Handler.network}),
    (r"/tasks/([^/]+)/logs", {"GET": _Handler.logs}),
    (r"/tasks/([^/]+)/artifacts", {"GET": _Handler.artifacts}),
    (r"/tasks/([^/]+)/artifacts/(.+)", {"GET": _Handler.artifact}),
    (r"/workers", {"GET": _Handler.list_workers}),
    (r"/workers/([^/]+)", {"GET": _Handler.get_worker, "DELETE": _Handler.remove_worker}),
    (r"/workers/([^/]+)/drain", {"POST": _Handler.drain_worker}),
    (r"/workers/([^/]+)/resume", {"POST": _Handler.resume_worker}),
]
