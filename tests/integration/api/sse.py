"""Server-sent events as a reader decodes them (WHATWG HTML, 9.2.6), strictly."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.integration.api import openapi


@dataclass(frozen=True)
class Event:
    cursor: int
    name: str
    body: dict[str, Any]


@dataclass
class Reader:
    """Takes bytes as they come; an event counts once its blank line is there."""

    events: list[Event] = field(default_factory=list)
    comments: int = 0
    _rest: bytes = b""

    def feed(self, data: bytes) -> list[Event]:
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        new = [event for block in blocks if (event := self._event(block))]
        self.events += new
        return new

    def _event(self, block: bytes) -> Event | None:
        assert b"\r" not in block
        if block.startswith(b":"):
            assert block == b": keep-alive"
            self.comments += 1
            return None
        lines = [line.split(b": ", 1) for line in block.split(b"\n")]
        assert [name for name, _ in lines] == [b"id", b"event", b"data"], block
        cursor, name, data = (value.decode() for _, value in lines)
        body = json.loads(data)
        openapi.validate(openapi.component("LogRecord"), body)
        assert body["seq"] == int(cursor)
        assert body["stream"] == name
        return Event(int(cursor), name, body)

    @property
    def cursor(self) -> int:
        return self.events[-1].cursor if self.events else 0

    def data(self, stream: str) -> str:
        """What is said on one stream, joined."""
        return "".join(event.body["data"] for event in self.events if event.name == stream)


def read(data: bytes) -> list[Event]:
    """The events of a whole answer."""
    reader = Reader()
    reader.feed(data)
    assert not reader._rest
    return reader.events
