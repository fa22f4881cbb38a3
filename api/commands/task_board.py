"""What the event stream has told about each task, and the picture of it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from api.client import Event
from api.commands import frames
from api.commands.clock_face import clock_face
from api.commands.task_rows import task_rows
from orchestrator import clock
from orchestrator.states import ACTIVE, TERMINAL, State

if TYPE_CHECKING:
    from rich.console import RenderableType

ENDED_STAY = timedelta(seconds=60)
SILENCE = timedelta(seconds=12)
"""The server says that it is there more often than this."""
HEADING_LINES = 2
"""The counts, and the names of the columns."""
CURSOR_LINES = 1


@dataclass
class Seen:
    """What is known about one task. Times are the server's; `left_at` is when we heard of its end, by our clock."""

    task_id: str
    name: str = ""
    state: str = State.PENDING
    waits_since: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    left_at: datetime | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    said: str = ""

    @property
    def has_ended(self) -> bool:
        return self.state in TERMINAL

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE

    def elapsed_seconds(self, now: datetime) -> float | None:
        """Since a worker took it first, or since it waits; of one that has ended, until its end."""
        begin = self.started_at or self.waits_since
        return None if begin is None else ((self.ended_at or now) - begin).total_seconds()


class Board:
    """Takes frames in one thread, and draws in another. It forgets a task a while after its end, unless `stays`.

    `states`: only tasks in these are shown.
    """

    def __init__(self, states: Collection[str] = (), *, stays: bool = False) -> None:
        self._states = states
        self._stays = stays
        self._seen: dict[str, Seen] = {}
        self._heard_at = clock.now()
        self._lock = threading.Lock()

    def take(self, event: Event, now: datetime) -> None:
        """Note what a frame tells. Of a task that no state change has named nothing is kept."""
        with self._lock:
            self._heard_at = now
            if event.task_id is None:
                return
            if event.kind == "state_change":
                self._seen.setdefault(event.task_id, Seen(event.task_id))
            if seen := self._seen.get(event.task_id):
                _TAKE.get(event.kind, _pass_over)(seen, event.body)
                if seen.has_ended and seen.left_at is None:
                    seen.left_at = now

    def learn(self, task: dict[str, Any]) -> None:
        """Note of a task that is known what its snapshot does not tell; `task` is as a list shows it."""
        with self._lock:
            if seen := self._seen.get(task["id"]):
                seen.progress = seen.progress or task.get("progress") or {}
                seen.started_at = _instant(task.get("started_at")) or seen.started_at
                seen.waits_since = _instant(task.get("created_at")) or seen.waits_since

    def shown(self, now: datetime) -> list[Seen]:
        """The tasks that are shown: those that run, what a worker prepares or ends, what has ended, what waits."""
        with self._lock:
            self._forget(now)
            found = [seen for seen in self._seen.values() if not self._states or seen.state in self._states]
        return sorted(found, key=_place)

    def picture(self, width: int, height: int, now: datetime) -> RenderableType:
        """As much as fits into a terminal of so many characters and lines."""
        from rich.console import Group  # noqa: PLC0415 - only a terminal pays for importing rich
        from rich.text import Text  # noqa: PLC0415

        shown = self.shown(now)
        room = max(1, height - HEADING_LINES - CURSOR_LINES)
        rows = shown if len(shown) <= room else shown[: max(1, room - 1)]
        parts: list[RenderableType] = [Text(self._heading(shown, now), style="dim", overflow="ellipsis", no_wrap=True)]
        parts += [task_rows(rows, width, now)] if rows else []
        if len(rows) < min(room, len(shown)):
            text = f"… and {len(shown) - len(rows)} more"
            parts.append(Text(text, style="dim", overflow="ellipsis", no_wrap=True))
        return Group(*parts)

    def _forget(self, now: datetime) -> None:
        if self._stays:
            return
        for seen in list(self._seen.values()):
            if seen.left_at is not None and now - seen.left_at > ENDED_STAY:
                del self._seen[seen.task_id]

    def _heading(self, shown: Sequence[Seen], now: datetime) -> str:
        kinds = Counter("ended" if one.has_ended else "active" if one.is_active else "waiting" for one in shown)
        counts = " · ".join(f"{kinds[kind]} {kind}" for kind in ("active", "waiting", "ended") if kinds[kind])
        silence = now - self._heard_at
        away = f" · nothing heard from the server for {clock_face(silence.total_seconds())}"
        return (counts or "no tasks") + (away if silence > SILENCE else "")


def _place(seen: Seen) -> tuple[int, float, str]:
    """Of what ended the newest is first, of all else the oldest."""
    if seen.has_ended:
        return 2, -_seconds(seen.ended_at), seen.task_id
    group = 0 if seen.state == State.RUNNING else 1 if seen.is_active else 3
    return group, _seconds(seen.started_at or seen.waits_since), seen.task_id


def _seconds(at: datetime | None) -> float:
    return at.timestamp() if at else 0.0


def _take_state(seen: Seen, body: dict[str, Any]) -> None:
    seen.state = str(body.get("new_state"))
    seen.name = frames.visible(str(body.get("name") or seen.name))
    at = _instant(body.get("timestamp"))
    if seen.is_active:
        seen.started_at = seen.started_at or at
    elif seen.has_ended:
        seen.ended_at = at
    else:
        seen.waits_since = seen.waits_since or at
        seen.progress = {}
    if seen.state != State.RUNNING:
        seen.metrics = {}
    if body.get("state_message"):
        seen.said = frames.visible(str(body["state_message"]))


def _take_output(seen: Seen, body: dict[str, Any]) -> None:
    seen.said = frames.last_line(str(body.get("data") or "")) or seen.said


def _take_progress(seen: Seen, body: dict[str, Any]) -> None:
    seen.progress = body.get("progress") or {}
    if text := seen.progress.get("text"):
        seen.said = frames.visible(str(text))


def _take_metrics(seen: Seen, body: dict[str, Any]) -> None:
    seen.metrics = body.get("metrics") or {}


def _take_error(seen: Seen, body: dict[str, Any]) -> None:
    if body.get("message"):
        seen.said = frames.visible(str(body["message"]))


def _pass_over(seen: Seen, body: dict[str, Any]) -> None:
    """What changes nothing that is shown."""


_TAKE: dict[str, Callable[[Seen, dict[str, Any]], None]] = {
    "state_change": _take_state,
    "output": _take_output,
    "progress": _take_progress,
    "metrics": _take_metrics,
    "error": _take_error,
}


def _instant(text: object) -> datetime | None:
    try:
        return clock.parse(str(text)) if text else None
    except ValueError:
        return None
