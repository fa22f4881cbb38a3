"""Journal records as frames of the event stream (contract §6). Each is rendered once for all readers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from wsproto.frame_protocol import FrameProtocol

from orchestrator import clock, journal
from orchestrator.journal import Place
from orchestrator.models import Kind, ListedTask, Record, TaskFacts

Body = dict[str, Any]
_CURSOR = re.compile(r"(\d{1,18})-(\d{1,18})")


def cursor_text(place: Place) -> str:
    """A place as readers know it: an opaque word."""
    return f"{place.transaction_id}-{place.position}"


def cursor_place(text: str) -> Place:
    """Read a cursor; `0` is the beginning. Raise `ValueError` when it is none."""
    found = _CURSOR.fullmatch(text)
    if found is None and text != "0":
        raise ValueError(f"{text[:50]!r} is no cursor of this stream")
    return Place(*map(int, found.groups())) if found else Place()


class Frame:
    """What readers get of one record, or of none. `place` is None for what cannot be resumed behind.

    `size_bytes` is what it takes while it is kept, about: what it was made of, and made into.
    """

    def __init__(self, type_: str, body: Body, place: Place | None, record: Record | None = None) -> None:
        self.type = type_
        self.place = place
        self.record = record
        self.size_bytes = 1024 + (3 * len(record.data or b"") if record else 0)
        self._body: Body | None = body
        self._json = b""

    @property
    def is_settled(self) -> bool:
        return self._body is None

    @property
    def json(self) -> bytes:
        if not self.is_settled:
            self.settle()
        return self._json

    def settle(self) -> None:
        """Make its JSON, and let go of what that is made of. By the thread that made the frame, before another sees it.

        What is no character (a lone surrogate) must not cut every reader off.
        """
        cursor = cursor_text(self.place) if self.place is not None else None
        text = json.dumps({"id": cursor, "type": self.type, **(self._body or {})}, ensure_ascii=False)
        self._json, self._body = text.encode("utf-8", "replace"), None
        if self.record is not None:
            self.record = replace(self.record, data=None)

    def sse(self) -> bytes:
        """JSON holds no raw line end, so one `data:` line is enough. Without an `id:` a reader's cursor stays."""
        cursor = f"id: {cursor_text(self.place)}\n" if self.place is not None else ""
        return b"%bevent: %b\ndata: %b\n\n" % (cursor.encode(), self.type.encode(), self.json)

    def message(self) -> bytes:
        """One WebSocket message. A server's are not masked, so all connections get the same bytes (RFC 6455 §5.3)."""
        return bytes(FrameProtocol(client=False, extensions=[]).send_data(self.json.decode(), fin=True))


SSE, WEBSOCKET = "sse", "message"
"""The forms: names of the methods above."""


def rendered(frames: Iterable[Frame], form: str) -> bytes:
    return b"".join([getattr(frame, form)() for frame in frames])


def of_record(record: Record, task: TaskFacts) -> Frame:
    """The frame of a record."""
    head = {"task_id": record.task_id, "attempt": record.attempt, "timestamp": clock.text(record.at)}
    place = journal.place_of(record)
    body = record.body
    if record.kind is Kind.STATE_CHANGE:
        told = {**head, **body, **_whose(task)}
    elif record.kind is Kind.OUTPUT:
        data = record.data or b""
        told = {**head, "stream": record.stream, "data": data.decode("utf-8", "replace"), "bytes": len(data)}
    elif record.kind is Kind.SYSTEM:
        data = f"{body['message']}\n".encode()
        told = {**head, "stream": "system", "data": data.decode(), "bytes": len(data)}
    elif record.kind is Kind.GAP:
        cursor = cursor_text(place)
        told = {**head, "from": cursor, "to": cursor, "reason": body["message"], "dropped_bytes": body["dropped_bytes"]}
    elif record.kind is Kind.ARTIFACT:
        told = {**head, "artifact": _artifact(record)}
    elif record.kind is Kind.EVENT:
        told = {**head, "event": body}
    elif record.kind is Kind.ERROR:
        told = {**head, **body}
    else:
        told = {**head, record.kind.value: body}
    return Frame(_TYPES.get(record.kind, record.kind.value), told, place, record)


_TYPES = {Kind.SYSTEM: "output"}
"""Where the type of a frame is not the name of the kind."""


def _whose(task: TaskFacts) -> Body:
    return {"name": task.name, "labels": task.labels, "parent_id": task.parent_id}


def _artifact(record: Record) -> Body:
    found: Body = record.body["artifact"]
    url = f"/api/v1/tasks/{quote(record.task_id)}/artifacts/{quote(found['path'])}?attempt={record.attempt}"
    return {**found, "download_url": url}


def of_existing(task: ListedTask) -> Frame:
    """The snapshot of a task that was there before its reader."""
    return Frame(
        "state_change",
        {
            "task_id": task.id,
            "attempt": task.attempt,
            "timestamp": clock.text(task.state_changed_at),
            "previous_state": None,
            "new_state": task.state,
            "state_message": task.state_message,
            "preexisting": True,
            "name": task.name,
            "labels": task.labels,
            "parent_id": task.parent_id,
        },
        None,
    )


def heartbeat(place: Place, *, is_behind: bool) -> Frame:
    """Says that the connection lives, and how far it is; `behind`: there is more that was there before."""
    told = {"timestamp": clock.text(clock.now())}
    return Frame("heartbeat", {**told, "behind": True} if is_behind else told, place)


def gap(begin: Place, end: Place, reason: str) -> Frame:
    """Says that something behind `begin` is not there any more."""
    told = {"timestamp": clock.text(clock.now()), "from": cursor_text(begin), "to": cursor_text(end), "reason": reason}
    return Frame("gap", told, begin)
