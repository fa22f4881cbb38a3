"""Serves the page's modules under the page's own policy, the checks, and logs that no task has ever printed."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from api import page
from api.rendering import sse_event

CHECKS = Path(__file__).parent / "checks"
AT = "2026-03-01T10:00:00.123456Z"
CHUNK_LINES = 2000
LONG = 60_000
HOSTILE = [
    ("stdout", '<img src=x onerror="window.wasRun=true"><script>window.wasRun=true</script>\n'),
    ("stdout", "\x1b[31mred\x1b[0m \x1b[38;2;1;2;3mown\x1b[0m \x1b]8;;javascript:alert(1)\x07link\x1b]8;;\x07\n"),
    ("stderr", "left \u202eright\n"),
    ("stdout", "x" * LONG + "\n"),
    ("stdout", "y\n"),
    ("system", "said by the product\n"),
    ("stderr", "the end\n"),
]


class OpenLog:
    """A log that gets lines when the check wants it to, and never ends."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._lines = 0
        self._closed = False

    def add(self, count: int) -> None:
        with self._changed:
            self._lines += count
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def chunks(self, cursor: int) -> Iterator[bytes]:
        while True:
            last = self._beyond(cursor)
            if last is None:
                return
            yield from lines(cursor + 1, last)
            cursor = last

    def _beyond(self, cursor: int) -> int | None:
        """Wait for a line behind `cursor` and return the last one; None when the log is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._lines > cursor)
            return None if self._closed else self._lines


class LogServer(ThreadingHTTPServer):
    """On a loopback port of its own; `report` is what the checks' page has told, once `reported` is set."""

    daemon_threads = True

    def __init__(self, agent_words: list[dict[str, Any]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.agent_words = agent_words
        self.report: dict[str, Any] = {}
        self.reported = threading.Event()
        self.visits: dict[str, int] = {}
        self._open: dict[str, OpenLog] = {}
        self._lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that hangs up in the middle of an answer is no error; anything else is printed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def open_log(self, task_id: str) -> OpenLog:
        with self._lock:
            return self._open.setdefault(task_id, OpenLog())

    def visit(self, task_id: str) -> int:
        """Count the requests for a log; return how many there have been."""
        with self._lock:
            self.visits[task_id] = self.visits.get(task_id, 0) + 1
            return self.visits[task_id]

    def close_logs(self) -> None:
        with self._lock:
            for one in self._open.values():
                one.close()


@contextmanager
def serving(agent_words: list[dict[str, Any]]) -> Iterator[LogServer]:
    server = LogServer(agent_words)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.close_logs()
        server.shutdown()
        server.server_close()
        thread.join()


def lines(first: int, last: int) -> Iterator[bytes]:
    """Records of the lines `first` to `last`, in chunks."""
    head = f', "timestamp": "{AT}", "stream": "stdout", "data": "line '
    for start in range(first, last + 1, CHUNK_LINES):
        numbers = range(start, min(start + CHUNK_LINES, last + 1))
        parts = [f'id: {n}\nevent: stdout\ndata: {{"seq": {n}{head}{n}\\n"}}\n\n' for n in numbers]
        yield "".join(parts).encode()


def record(name: str, seq: int, data: str) -> bytes:
    return sse_event(name, seq, {"seq": seq, "timestamp": AT, "stream": name, "data": data})


def end(seq: int) -> bytes:
    return sse_event("end", seq, {"seq": seq, "timestamp": AT, "stream": "end", "state": "completed", "exit_code": 0})


class _Handler(BaseHTTPRequestHandler):
    server: LogServer

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path.startswith("/assets/"):
            self._file(page.DIRECTORY / path.removeprefix("/assets/"))
        elif path.startswith("/checks/"):
            self._file(CHECKS / path.removeprefix("/checks/"))
        elif path == "/checks.json":
            self._json(200, check_files())
        elif path == "/agent-words.json":
            self._json(200, self.server.agent_words)
        elif path.startswith("/api/v1/tasks/") and path.endswith("/logs"):
            self._log(unquote(path.split("/")[4]))
        else:
            self._json(404, {"error": "not_found", "message": f"there is no {path}"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urlsplit(self.path)
        if address.path == "/report":
            self.server.report = json.loads(body)
            self.server.reported.set()
        else:
            query = parse_qs(address.query)
            self.server.open_log(query["task"][0]).add(int(query["count"][0]))
        self._json(200, {})

    def _file(self, file: Path) -> None:
        if file.parent not in (page.DIRECTORY, CHECKS) or not file.is_file():
            self._json(404, {"error": "not_found", "message": f"there is no file {file.name}"})
            return
        self._answer(200, page.TYPES[file.suffix], file.read_bytes())

    def _json(self, status: int, body: object) -> None:
        self._answer(status, "application/json", json.dumps(body).encode())

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in {**page.HEADERS, "Content-Type": content_type, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _log(self, task_id: str) -> None:
        kind, _, number = task_id.partition("-")
        if kind == "refused":
            self._json(404, {"error": "task_not_found", "message": f"there is no task {task_id!r}"})
            return
        cursor = int(self.headers.get("Last-Event-ID") or 0)
        visit = self.server.visit(task_id)
        if kind == "away" and 1 < visit < 4:
            self._json(503, {"error": "service_unavailable", "message": "connection lost: the store is away"})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for chunk in self._chunks(kind, number, cursor, visit):
            self.wfile.write(chunk)

    def _chunks(self, kind: str, number: str, cursor: int, visit: int) -> Iterator[bytes]:
        if kind == "open":
            yield from self.server.open_log(f"{kind}-{number}").chunks(cursor)
        elif kind == "hostile":
            yield from (record(name, seq, data) for seq, (name, data) in enumerate(HOSTILE, 1))
            yield end(len(HOSTILE))
        elif "attempt=2" in self.path:
            yield record("stdout", 1, "attempt 2\n")
            yield end(1)
        elif kind in ("cut", "away") and visit == 1:
            half = int(number) // 2
            yield from lines(1, half)
            yield b"".join(lines(half + 1, half + 1))[:40]
        else:
            last = int(number)
            yield from lines(cursor + 1, last)
            yield record("system", last + 1, "that was all\n")
            yield end(last + 1)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Requests are not logged: a test that fails tells enough."""


def check_files() -> list[str]:
    """The files of checks, in the order of their names."""
    return sorted(file.name for file in CHECKS.glob("*.js") if file.name not in ("check.js", "main.js"))
