"""A scripted stub of the Messages API for the real CLI: in a test (`ModelApi`), or by hand.

    python -m tests.model_api.stub --port 8999 --script examples.json

`scenarios` tells what a script may say. What the real API would refuse, this one refuses.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.model_api import sse
from tests.model_api.scenarios import BadRequest, Script, Step, answer, check, check_request, due

GREETING: Script = {"default": [answer("Hello from the stub.")]}

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}


@dataclass(frozen=True)
class Seen:
    """A request for an answer, as it arrived. Header names are in lower case."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def system(self) -> str:
        system = self.body.get("system", "")
        return system if isinstance(system, str) else "\n".join(part["text"] for part in system)

    @property
    def tools(self) -> list[str]:
        return [tool["name"] for tool in self.body.get("tools", [])]

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        return self.body["messages"]  # type: ignore[no-any-return]


class ModelApi:
    """The stub on loopback while the `with` block lasts; `port` 0 is a free one.

    `requests` are those for an answer, in their order; `strays` those that this API has nothing for. With a `key`,
    a request without it (`x-api-key`) is answered 401.
    """

    def __init__(self, script: Script = GREETING, *, key: str | None = None, port: int = 0) -> None:
        check(script)
        self.requests: list[Seen] = []
        self.strays: list[str] = []
        self._script = script
        self._key = key
        self._refusals: Counter[tuple[str, str, int]] = Counter()
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"api": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05], name="model-api")
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def release(self) -> None:
        """Let every `hang` go on, those of later requests too."""
        self._released.set()

    def reply(self, request: Seen) -> tuple[int, str, Step | None]:
        """Status, and either why there is no answer, or the answer. Waits where the script says so."""
        self.requests.append(request)
        if self._key is not None and request.headers.get("x-api-key") != self._key:
            return 401, "invalid x-api-key", None
        try:
            check_request(request.body)
            name, number, gates, step = due(self._script, request.messages)
        except BadRequest as refusal:
            return 400, str(refusal), None
        for gate in gates:
            if "hang" in gate:
                self._released.wait()
            elif self._refuses(gate, (_conversation(request), name, number)):
                return gate["refuse"], gate.get("message", "refused by the stub"), None
        return 200, f"{len(self.requests)}", step

    def _refuses(self, gate: Step, place: tuple[str, str, int]) -> bool:
        if "times" in gate and self._refusals[place] >= gate["times"]:
            return False
        self._refusals[place] += 1
        return True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: ModelApi

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client that is killed resets its connections
            super().handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass

    def do_HEAD(self) -> None:
        self._send(200, b"")

    def do_GET(self) -> None:
        self.api.strays.append(f"GET {self.path}")
        self._refuse(404, "the stub has nothing to GET")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = self.path.partition("?")[0]
        if path == "/v1/messages/count_tokens":
            self._send(200, b'{"input_tokens":1}')
        elif path == "/v1/messages":
            self._answer(Seen(self.path, {name.lower(): one for name, one in self.headers.items()}, body))
        else:
            self.api.strays.append(f"POST {self.path}")
            self._refuse(404, "the stub has nothing there")

    def _answer(self, request: Seen) -> None:
        status, words, step = self.api.reply(request)
        if step is None:
            self._refuse(status, words)
            return
        whole = sse.message(step, request.model, words)
        if not request.body.get("stream"):
            self._send(200, json.dumps(whole).encode())
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with suppress(ConnectionError):  # who does not want the rest has gone
            for event in sse.events(whole):
                self._chunk(sse.encoded(event))
                if sse.is_word(event):
                    time.sleep(step.get("seconds_per_word", 0.0))
            self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _refuse(self, status: int, message: str) -> None:
        error = {"type": ERROR_TYPES.get(status, "api_error"), "message": message}
        self._send(status, json.dumps({"type": "error", "error": error}).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _conversation(request: Seen) -> str:
    """What tells this conversation from the others that the stub serves."""
    return request.headers.get("x-claude-code-session-id") or json.dumps(request.messages[0])


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--script", type=Path, help="scenarios as JSON; without it: a greeting")
    asked = parser.parse_args()
    script = json.loads(asked.script.read_text()) if asked.script else GREETING
    with ModelApi(script, port=asked.port) as api:
        print(f"the stub of the Messages API listens on {api.url}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print(f"answered {len(api.requests)} requests")


if __name__ == "__main__":
    main()
