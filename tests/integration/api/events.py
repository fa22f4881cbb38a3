"""Readers of the event stream, by SSE and by WebSocket, that keep every frame."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import websocket

from tests.integration.api import openapi
from tests.integration.api.live import LiveServer
from tests.integration.api.waiting import eventually

Frame = dict[str, Any]
PATH = "/api/v1/tasks/stream"


class EventReader:
    """Reads by SSE in a thread of its own until it is closed, or its connection is cut."""

    def __init__(self, server: LiveServer, headers: dict[str, str] | None = None, **params: object) -> None:
        self.frames: list[Frame] = []
        self.cut = threading.Event()
        self._closed = False
        self._client = httpx.Client(timeout=30)
        query = {name.replace("label_", "label."): str(value) for name, value in params.items()}
        request = self._client.build_request("GET", f"{server.url}{PATH}", params=query, headers=headers or {})
        self._response = self._client.send(request, stream=True)
        assert self._response.status_code == 200, self._response.read()
        assert self._response.headers["content-type"].startswith("text/event-stream")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        rest = ""
        try:
            for text in self._response.iter_text():
                *blocks, rest = (rest + text).split("\n\n")
                self.frames += [_decoded(block) for block in blocks]
        except (httpx.HTTPError, httpx.StreamError, OSError):
            pass
        finally:
            self.cut.set()

    @property
    def told(self) -> list[Frame]:
        """Without the heartbeats."""
        return [frame for frame in self.frames if frame["type"] != "heartbeat"]

    @property
    def cursor(self) -> str:
        return next(frame["id"] for frame in reversed(self.frames) if frame["id"] is not None)

    def ready(self) -> EventReader:
        """Wait until the snapshot is over: what happens from now on is told."""
        self.until("the first heartbeat", lambda frames: any(one["type"] == "heartbeat" for one in frames))
        return self

    def until(self, what: str, check: Callable[[list[Frame]], object]) -> list[Frame]:
        eventually(what, lambda: check(list(self.frames)))
        return self.told

    def until_state(self, task_id: str, state: str) -> list[Frame]:
        return self.until(f"{task_id} is {state}", lambda frames: state in states_of(frames, task_id))

    def close(self) -> None:
        connection = self._response.extensions["network_stream"].get_extra_info("socket")
        with suppress(OSError):  # cut already
            connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(30)
        self._response.close()
        self._client.close()


def states_of(frames: list[Frame], task_id: str) -> list[str]:
    return [one["new_state"] for one in frames if one["type"] == "state_change" and one["task_id"] == task_id]


def output_of(frames: list[Frame], task_id: str) -> str:
    said = [one for one in frames if one["type"] == "output" and one["task_id"] == task_id]
    return "".join(one["data"] for one in said if one["stream"] == "stdout")


def _decoded(block: str) -> Frame:
    fields = dict(line.split(": ", 1) for line in block.split("\n"))
    frame: Frame = json.loads(fields["data"])
    assert fields.get("id") == frame["id"]
    assert fields["event"] == frame["type"]
    openapi.validate(openapi.component("Frame"), frame)
    return frame


def open_websocket(server: LiveServer, query: str = "", **options: Any) -> websocket.WebSocket:
    """A client's end of a WebSocket."""
    return websocket.create_connection(f"{server.url.replace('http', 'ws', 1)}{PATH}{query}", timeout=30, **options)


def next_frame(connection: websocket.WebSocket, type_: str | None = None) -> Frame:
    """The next frame, of one type."""
    while True:
        frame: Frame = json.loads(connection.recv())
        openapi.validate(openapi.component("Frame"), frame)
        if type_ is None or frame["type"] == type_:
            return frame
