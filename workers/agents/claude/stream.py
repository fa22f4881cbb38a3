"""Reads the agent's standard output: a line is an event of its protocol, or nothing that we know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from orchestrator.manifest import Claude
from workers.agents.claude import background, beginnings, notices, questions, results, tool_calls
from workers.agents.claude.json_lines import parsed
from workers.agents.claude.seen import ClaudeSeen
from workers.agents.port import Seen, Told

Taker = Callable[[ClaudeSeen, Mapping[str, Any], float], Told]

_TAKERS: dict[object, Taker] = {
    "assistant": tool_calls.model_spoke,
    "user": tool_calls.tools_answered,
    "result": results.turn_ended,
    "control_request": questions.asked,
    "control_cancel_request": questions.cancelled,
    "control_response": questions.taken_in,
    "command_lifecycle": questions.taken_in,
}
_SYSTEM_TAKERS: dict[object, Taker] = {
    "api_retry": notices.retries,
    "permission_denied": notices.denied,
    "background_tasks_changed": background.changed,
    "task_notification": background.ended,
}


class ClaudeReader:
    """See `Reader`."""

    def __init__(self, claude: Claude, seen: Mapping[str, Any] | None) -> None:
        self._seen = ClaudeSeen.load(seen)
        self.seen: Seen = self._seen
        self.shows_lines = claude.output_format == "stream-json"
        self._claude = claude

    def read(self, line: bytes, at: float) -> Told:
        try:
            said = parsed(line)
            told = self._take(said, at) if said else Told()
        except RecursionError:  # lists in lists in lists
            return Told()
        self.seen.idle = self._seen.resting and not self.seen.background and not self._seen.questions
        if said and said.get("type") == "result" and not self.shows_lines:
            return replace(told, shown=self._shown(line, said))
        return told

    def _take(self, said: Mapping[str, Any], at: float) -> Told:
        kind, subtype = said.get("type"), said.get("subtype")
        if kind == "system":
            if subtype == "init":
                return beginnings.begun(self._seen, self._claude, said, at)
            return _taker(_SYSTEM_TAKERS, subtype)(self._seen, said, at)
        if kind == "control_request" and not self._claude.interactive:
            return Told()  # not the agent's: it was not given the tool that asks
        if kind == "user" and said.get("isReplay"):
            questions.taken_in(self._seen, said, at)
        return _taker(_TAKERS, kind)(self._seen, said, at)

    def _shown(self, line: bytes, said: Mapping[str, Any]) -> bytes:
        """A turn's result, in the form that the manifest asks for."""
        if self._claude.output_format == "json":
            return line.strip() + b"\n"
        text = results.storable(results.result_text(said))
        return f"{text}\n".encode() if text else b""


def _taker(takers: Mapping[object, Taker], kind: object) -> Taker:
    return takers.get(kind, _nothing) if isinstance(kind, str) else _nothing


def _nothing(_seen: ClaudeSeen, _said: Mapping[str, Any], _at: float) -> Told:
    return Told()
