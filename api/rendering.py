"""Journal rows as text, ndjson, SSE and raw bytes (contract §5). Whole rows at once, and once for all readers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from api import conversation
from orchestrator import clock, journal
from orchestrator.models import Kind, Record
from orchestrator.states import TERMINAL, State

ALL = "all"
EVENTS = "events"
SYSTEM = "system"
STREAMS = ("stdout", "stderr", EVENTS, SYSTEM)
"""What may be asked for, one or several; `ALL` is all of them."""
FORMATS = ("text", "ndjson", "sse", "raw")
_SEPARATOR = "\x00,"  # NUL is escaped inside JSON strings: it can only be ours

KEEP_ALIVE = b": keep-alive\n\n"


def streams_named(text: str) -> str:
    """The one spelling of a comma list of streams; raise `ValueError` for a word that is none."""
    if text == ALL:
        return ALL
    named = {one.strip() for one in text.split(",")}
    if unknown := named - set(STREAMS):
        raise ValueError(f"{min(unknown)!r} is no stream")
    return ALL if len(named) == len(STREAMS) else ",".join(one for one in STREAMS if one in named)


class Row:
    """A journal row with what it looks like, rendered at most once for each (format, stream)."""

    __slots__ = ("_cache", "record", "size_bytes")

    def __init__(self, record: Record) -> None:
        self.record = record
        told = sum(len(value) for value in record.body.values() if isinstance(value, str))
        self.size_bytes = len(record.data or b"") + told + 256
        self._cache: dict[tuple[str, str], bytes] = {}

    @property
    def ends(self) -> bool:
        """True for the record that ends a task."""
        record = self.record
        return record.kind is Kind.STATE_CHANGE and State(record.body["new_state"]) in TERMINAL

    def shown_in(self, stream: str) -> bool:
        """Tell whether the filter `stream`, as `streams_named` spells it, lets this row through."""
        kind = self.record.kind
        if stream == ALL or kind is Kind.GAP:
            return True
        of = self.record.stream if kind is Kind.OUTPUT else SYSTEM if kind is Kind.SYSTEM else EVENTS
        return of in stream.split(",")

    def render(self, form: str, stream: str, after: int) -> bytes:
        """Return the row in `form` (ndjson, sse or raw), without what is up to the cursor `after`."""
        if not self.shown_in(stream):
            return b""
        if after >= self.record.first_seq:
            return _RENDER[form](self.record, after)
        key = (form, stream)
        found = self._cache.get(key)
        if found is None:
            found = self._cache[key] = _RENDER[form](self.record, 0)
        return found


def _lines(record: Record, after: int) -> tuple[int, list[bytes]]:
    """The lines of an output row behind `after`, and the sequence number of the first."""
    lines = journal.pieces(record.data or b"")
    skip = max(0, after - record.first_seq + 1)
    return record.first_seq + skip, lines[skip:]


def _json_lines(record: Record, after: int) -> tuple[int, list[str]]:
    first, lines = _lines(record, after)
    if not lines:
        return first, []
    texts = [line.decode("utf-8", "replace") for line in lines]
    return first, json.dumps(texts, separators=(_SEPARATOR, ":"), ensure_ascii=False)[1:-1].split(_SEPARATOR)


def _ndjson(record: Record, after: int) -> bytes:
    if record.kind is not Kind.OUTPUT:
        return json.dumps(_object(record), ensure_ascii=False).encode() + b"\n"
    first, lines = _json_lines(record, after)
    tail = f', "timestamp": "{clock.text(record.at)}", "stream": "{record.stream}", "data": '
    return "".join([f'{{"seq": {first + index}{tail}{line}}}\n' for index, line in enumerate(lines)]).encode()


def _sse(record: Record, after: int) -> bytes:
    if record.kind is not Kind.OUTPUT:
        name = {Kind.SYSTEM: "system", Kind.GAP: "gap"}.get(record.kind, "event")
        return sse_event(name, record.last_seq, _object(record))
    first, lines = _json_lines(record, after)
    tail = f', "timestamp": "{clock.text(record.at)}", "stream": "{record.stream}", "data": '
    head = f"\nevent: {record.stream}\n"
    parts = [f'id: {seq}{head}data: {{"seq": {seq}{tail}{line}}}\n\n' for seq, line in enumerate(lines, first)]
    return "".join(parts).encode()


def _raw(record: Record, after: int) -> bytes:
    if record.kind is not Kind.OUTPUT:
        return b""
    return b"".join(_lines(record, after)[1])


_RENDER = {"ndjson": _ndjson, "sse": _sse, "raw": _raw}


def sse_event(name: str, cursor: int, data: dict[str, Any]) -> bytes:
    """One server-sent event. JSON holds no raw line end, so one `data:` line is enough."""
    return f"id: {cursor}\nevent: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def _object(record: Record) -> dict[str, Any]:
    """A record that is no output, as its ndjson object."""
    head: dict[str, Any] = {"seq": record.last_seq, "timestamp": clock.text(record.at)}
    if record.kind is Kind.SYSTEM:
        return {**head, "stream": "system", "data": record.body["message"] + "\n"}
    if record.kind is Kind.GAP:
        return {**head, "stream": "gap", "attempt": record.attempt, **record.body}
    return {**head, "stream": "event", "type": record.kind.value, "attempt": record.attempt, **record.body}


class TextRenderer:
    """`[<time>] [STDOUT] line`. A line that came in pieces is put together again; one reader's state."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._unfinished: dict[tuple[int, str], tuple[str, bytes]] = {}

    def render(self, row: Row, after: int) -> bytes:
        record = row.record
        if not row.shown_in(self._stream):
            return b""
        if record.kind is not Kind.OUTPUT:
            head = f"[{clock.text(record.at)}] "
            return "".join(f"{head}{line}\n" for line in _said(record)).encode()
        return b"".join(self._output(record, after))

    def rest(self) -> bytes:
        """What never got its line end."""
        left, self._unfinished = self._unfinished, {}
        return b"".join(head.encode() + _clean(data) + b"\n" for head, data in left.values())

    def _output(self, record: Record, after: int) -> Iterator[bytes]:
        stream = record.stream or ""
        source = record.attempt, stream  # what one attempt left unfinished is not the next one's beginning
        head = f"[{clock.text(record.at)}] [{stream.upper()}] "
        for line in _lines(record, after)[1]:
            first, begun = self._unfinished.pop(source, (head, b""))
            whole = begun + line
            if line.endswith(b"\n") or len(whole) >= journal.PIECE_BYTES:
                yield first.encode() + _clean(whole.rstrip(b"\n")) + b"\n"
            else:
                self._unfinished[source] = (first, whole)


def _clean(line: bytes) -> bytes:
    return line.decode("utf-8", "replace").encode()


def _said(record: Record) -> list[str]:
    """The words of a record that is no output, in lines."""
    body = record.body
    if record.kind is Kind.SYSTEM:
        return [f"[SYSTEM] {body['message']}"]
    if record.kind is Kind.GAP:
        return [f"[SYSTEM] gap: {body['message']}"]
    if record.kind is Kind.STATE_CHANGE:
        return [f"[EVENT] {body['new_state']}: {body['state_message'] or ''}".rstrip(": ")]
    if record.kind is Kind.ARTIFACT:
        return [f"[EVENT] artifact {body['artifact']['path']} ({body['artifact']['size_bytes']} bytes)"]
    told = conversation.lines(body) or [json.dumps(body, ensure_ascii=False)]
    return [f"[EVENT] {line}" for line in told]
