"""What an answer of the Messages API says of its own cost, read while it passes (pure). Tolerant of anything."""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass, replace
from typing import Any

MAX_EVENT_BYTES = 1 << 20
"""Of one event in a stream. Those that tell of usage have some hundred; a longer one is passed on unread."""
MAX_JSON_BYTES = 4 << 20
"""Of an answer that is no stream; a longer one is passed on, and its usage is not known."""
MAX_TOKENS = 1 << 40
CHARACTERS_A_TOKEN = 4
"""About; for the output of a stream that breaks off before it tells how many tokens it had."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. `input_tokens` came neither from the cache nor went into it; `cache_write_1h_tokens` are those of
    `cache_write_tokens` that are kept for an hour.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0

    def since(self, before: Usage) -> Usage:
        """What has come to it. A correction downwards is a negative number."""
        return Usage(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))


_NAMES = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_input_tokens": "cache_read_tokens",
    "cache_creation_input_tokens": "cache_write_tokens",
}
"""The API's words and ours."""
_PUT_OUT = ("text", "thinking", "partial_json")
"""What a piece of output may hold."""


def merged(usage: Usage, found: Any) -> Usage:
    """`usage` with what the API's `found` says: its numbers are of the whole request, so the last word counts."""
    if not isinstance(found, dict):
        return usage
    told = {ours: found[theirs] for theirs, ours in _NAMES.items() if _is_count(found.get(theirs))}
    kept = found.get("cache_creation")
    if isinstance(kept, dict) and _is_count(kept.get("ephemeral_1h_input_tokens")):
        told["cache_write_1h_tokens"] = kept["ephemeral_1h_input_tokens"]
    usage = replace(usage, **told)
    return replace(usage, cache_write_1h_tokens=min(usage.cache_write_1h_tokens, usage.cache_write_tokens))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS


class StreamReader:
    """Reads server-sent events, cut anywhere. `is_whole`: the API has said that this is all."""

    def __init__(self) -> None:
        self.model: str | None = None
        self.usage = Usage()
        self.is_whole = False
        self.has_failed = False
        self._line = bytearray()
        self._data = bytearray()
        self._line_is_too_long = False
        self._event_is_too_long = False
        self._has_ended = False
        self._characters = 0

    def feed(self, data: bytes) -> None:
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._take(piece)
            self._end_line()
        self._take(rest)

    def finish(self) -> None:
        """Nothing follows. What a stream that broke off has put out is estimated: it is paid for."""
        if self._line:
            self._end_line()
        self._end_event()
        if not self._has_ended:
            seen = self._characters // CHARACTERS_A_TOKEN
            self.usage = replace(self.usage, output_tokens=max(self.usage.output_tokens, seen))

    def _take(self, piece: bytes) -> None:
        if len(self._data) + len(self._line) + len(piece) > MAX_EVENT_BYTES:
            self._line_is_too_long = self._event_is_too_long = True
            self._line.clear()
        elif not self._line_is_too_long:
            self._line += piece

    def _end_line(self) -> None:
        line = bytes(self._line).removesuffix(b"\r")
        is_empty = not line and not self._line_is_too_long
        self._line.clear()
        self._line_is_too_long = False
        if line.startswith(b"data:"):
            self._data += line[5:]
        elif is_empty:
            self._end_event()

    def _end_event(self) -> None:
        event = None if self._event_is_too_long else _json(bytes(self._data))
        self._data.clear()
        self._event_is_too_long = False
        if not isinstance(event, dict):
            return
        match event.get("type"):
            case "message_start" if isinstance(message := event.get("message"), dict):
                self.model = _name(message.get("model"), self.model)
                self.usage = merged(self.usage, message.get("usage"))
            case "content_block_delta" if isinstance(delta := event.get("delta"), dict):
                self._characters += sum(len(delta[key]) for key in _PUT_OUT if isinstance(delta.get(key), str))
            case "message_delta":
                self.usage = merged(self.usage, event.get("usage"))
                self._has_ended = True
            case "message_stop":
                self.is_whole = True
            case "error":
                self.is_whole = self.has_failed = True


class AnswerReader:
    """Reads an answer that is one JSON object; it is known at `finish` only."""

    def __init__(self) -> None:
        self.model: str | None = None
        self.usage = Usage()
        self.is_whole = False
        self.has_failed = False
        self._body = bytearray()
        self._is_too_long = False

    def feed(self, data: bytes) -> None:
        if self._is_too_long or len(self._body) + len(data) > MAX_JSON_BYTES:
            self._is_too_long = True
            self._body.clear()
        else:
            self._body += data

    def finish(self) -> None:
        answer = _json(bytes(self._body))
        self._body.clear()
        if isinstance(answer, dict):
            self.is_whole = True
            self.model = _name(answer.get("model"), None)
            self.usage = merged(self.usage, answer.get("usage"))


Reader = StreamReader | AnswerReader


def _json(data: bytes) -> Any:
    """None when it is none."""
    try:
        return json.loads(data) if data else None
    except (ValueError, RecursionError):
        return None


def _name(value: Any, default: str | None) -> str | None:
    return value if isinstance(value, str) and value else default
