"""Readers of the event stream: one watcher a process reads what is new once and hands it to all (design §5)."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from api import watcher
from api.stream.ears import Ears
from api.stream.frames import Frame, of_record, rendered
from api.stream.picking import newest_of_each, pick, state_after
from api.stream.selection import Selection
from orchestrator import journal
from orchestrator.journal import Place
from orchestrator.models import Kind, Record, TaskFacts
from orchestrator.states import TERMINAL, State
from orchestrator.store import tasks
from orchestrator.store.database import Database

KEPT_BYTES = 64 << 20
"""What all channels of a process keep together, before it is rendered."""
HANDED_BYTES = 64 << 10
"""A reader gets so much at once. One that has stopped reading holds it for as long as it stays (fault F12)."""
MOST_WAITING_BYTES = 1 << 20
"""Held back for an interval; with more it is given before its time."""
PAGE_ROWS = 256
KNOWN_TASKS = 10_000
HELD_BACK_SECONDS = 0.02
"""How soon to look again for what is stored, but not to be given before an older transaction has ended."""
SHORTEST_ROUND_SECONDS = 0.01
LONGEST_ROUND_SECONDS = 0.1
SECONDS_A_READER = 0.0001
"""Each round wakes the readers: the more of them, the fewer rounds, and the more comes in each."""


@dataclass
class Batch:
    """Frames that came together. `end` is behind them and whatever was passed over."""

    frames: list[Frame]
    end: Place
    _forms: dict[str, bytes] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        return sum(frame.size_bytes for frame in self.frames)

    def behind(self, place: Place) -> Batch:
        """What of it is behind a place: a reader may begin within it."""
        if not self.frames or self.frames[0].place is None or self.frames[0].place > place:
            return self
        return Batch([frame for frame in self.frames if frame.place is not None and frame.place > place], self.end)

    def rendered(self, form: str) -> bytes:
        """In one form; made once for all readers."""
        found = self._forms.get(form)
        if found is None:
            found = self._forms[form] = rendered(self.frames, form)
        return found


@dataclass(frozen=True, slots=True)
class News:
    """What the watcher has read: frames and their tasks; if anybody asks for states, those before and after it."""

    frames: list[Frame]
    facts: dict[str, TaskFacts]
    states: dict[str, State | None]
    states_after: dict[str, State | None]
    end: Place

    def serves(self, selections: Iterable[Selection]) -> bool:
        """False when somebody asks for states who was not there when this was read."""
        return bool(self.states) or not self.frames or not any(one.states for one in selections)


class Channel:
    """The newest frames of one selection, shared by all readers that asked for the same. Thread-safe.

    A reader whose place is before `floor` reads from the store until it has caught up. Its bell rings when something
    came; each has one of its own, so that one can be woken alone.
    """

    def __init__(self, selection: Selection, place: Place) -> None:
        self.selection = selection
        self._interval = selection.rate_limit_ms / 1000
        self._lock = threading.Lock()
        self._batches: deque[Batch] = deque()
        self._bytes = 0
        self._waiting: list[Frame] = []
        self._pushed_at = float("-inf")
        self.floor = place
        self.place = place
        self.bells: frozenset[threading.Event] = frozenset()

    def offer(self, frames: Sequence[Frame], end: Place, kept_bytes: int) -> None:
        """Take what was picked of all that is new up to `end`; called by the watcher alone, also with nothing."""
        self._waiting += frames
        now = time.monotonic()
        is_early = self._interval > 0 and now - self._pushed_at < self._interval
        if is_early and sum(frame.size_bytes for frame in self._waiting) < MOST_WAITING_BYTES:
            if not self._waiting:
                self._push([], end, kept_bytes)
            return
        picked, self._waiting = self._waiting, []
        if picked:
            self._pushed_at = now
        for part, part_end in _parts(newest_of_each(picked) if self._interval else picked, end):
            self._push(part, part_end, kept_bytes)

    def due_in(self) -> float:
        """Seconds until what waits for its interval is to be given; infinite when nothing does."""
        return max(0.0, self._pushed_at + self._interval - time.monotonic()) if self._waiting else float("inf")

    def _push(self, frames: list[Frame], end: Place, kept_bytes: int) -> None:
        for frame in frames:
            if not frame.is_settled:  # another channel may have given it already
                frame.settle()
        with self._lock:
            self.place = end
            if not frames:
                return
            batch = Batch(frames, end)
            self._batches.append(batch)
            self._bytes += batch.size_bytes
            while len(self._batches) > 1 and self._bytes > kept_bytes:
                dropped = self._batches.popleft()
                self._bytes -= dropped.size_bytes
                self.floor = dropped.end
        for bell in self.bells:
            bell.set()

    def after(self, place: Place) -> tuple[list[Batch], Place] | None:
        """The next batches behind `place` and the place behind them; None when the store must be asked."""
        with self._lock:
            if place < self.floor:
                return None
            found: list[Batch] = []
            for batch in reversed(self._batches):
                if batch.end <= place:
                    break
                found.append(batch.behind(place))
            end = max(place, self.place)
        found.reverse()
        size = 0
        for number, batch in enumerate(found, 1):
            size += batch.size_bytes
            if size >= HANDED_BYTES and number < len(found):
                return found[:number], batch.end
        return found, end


def _parts(frames: list[Frame], end: Place) -> Iterator[tuple[list[Frame], Place]]:
    """Frames in parts that one reader may be handed at once, and the place behind each."""
    part: list[Frame] = []
    size = 0
    for frame in frames:
        if part and size + frame.size_bytes > HANDED_BYTES and part[-1].place is not None:
            yield part, part[-1].place
            part, size = [], 0
        part.append(frame)
        size += frame.size_bytes
    yield part, end


class EventHub:
    """All channels of this process, and the one thread that fills them. It sleeps while nobody reads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.ears = Ears()
        self._channels: dict[Selection, Channel] = {}
        self._facts: OrderedDict[str, TaskFacts] = OrderedDict()
        self._states: dict[str, State | None] = {}
        self._place = Place()
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        watcher.start("event-watcher", database, self._wanted, self._fill)

    @contextmanager
    def channel(self, selection: Selection, bell: threading.Event) -> Iterator[Channel]:
        """Subscribe: what is committed from now on is in the channel or in the store. Raises `StoreUnavailable`."""
        with self._lock:
            if not self._channels:  # the watcher rests, and has passed over what came meanwhile
                with self._database.read() as tx:
                    self._place = journal.newest(tx)
            channel = self._channels.get(selection)
            if channel is None:
                channel = self._channels[selection] = Channel(selection, self._place)
            channel.bells = channel.bells | {bell}
            self._wanted.set()
        try:
            yield channel
        finally:
            with self._lock:
                channel.bells = channel.bells - {bell}
                if not channel.bells:
                    del self._channels[selection]
                if not self._channels:
                    self._wanted.clear()

    def facts_of(self, records: Iterable[Record]) -> dict[str, TaskFacts]:
        """What is known of the records' tasks; those that are gone are left out. Raises `StoreUnavailable`."""
        wanted = {record.task_id for record in records}
        with self._lock:
            found = {one: self._facts[one] for one in wanted if one in self._facts}
        missing = wanted - found.keys()
        if missing:
            with self._database.read() as tx:
                new = tasks.facts_of(tx, missing)
            found |= new
            with self._lock:
                self._facts |= new
                while len(self._facts) > KNOWN_TASKS:
                    self._facts.popitem(last=False)
        return found

    def states_before(self, records: Sequence[Record], known: dict[str, State | None]) -> dict[str, State | None]:
        """The state of each task before the first of these records; `known` are those that were told before.

        Raises `StoreUnavailable`.
        """
        first: dict[str, Record] = {}
        for record in records:
            first.setdefault(record.task_id, record)
        unknown = [record for task_id, record in first.items() if task_id not in known]
        if unknown:
            with self._database.read() as tx:
                known = known | {record.task_id: journal.state_before(tx, record) for record in unknown}
        return {task_id: known[task_id] for task_id in first}

    def _fill(self) -> float:
        """Hand out all that is new; return how long nothing else need be done unless the doorbell rings."""
        while True:
            with self._lock:
                began, kinds = self._place, self._kinds()
            if not kinds:
                return 0.0
            with self._database.read() as tx:
                records, place = journal.all_after(tx, began, kinds=kinds, limit=PAGE_ROWS)
                is_all = len(records) < PAGE_ROWS
                if is_all:
                    place = max(place, journal.newest(tx))  # over what nobody asked for
                held_back = is_all and journal.is_held_back(tx, place)
            facts = self.facts_of(records)
            before, after = self._states_around(records)
            frames = [of_record(record, facts[record.task_id]) for record in records if record.task_id in facts]
            pause = self._hand_out(began, kinds, News(frames, facts, before, after, place))
            if is_all and pause is not None:
                return min(pause, HELD_BACK_SECONDS if held_back else watcher.IDLE_SECONDS)

    def _kinds(self) -> frozenset[Kind]:
        return frozenset(kind for selection in self._channels for kind in selection.read_kinds)

    def _states_around(self, records: Sequence[Record]) -> tuple[dict[str, State | None], dict[str, State | None]]:
        """The states before these records, and what to remember behind them; nothing while nobody asks for states."""
        with self._lock:
            wanted = any(selection.states for selection in self._channels)
        if not wanted:
            return {}, {}
        before = self.states_before(records, self._states)
        after = self._states | before
        for record in records:
            after[record.task_id] = state_after(record, after[record.task_id])
        # Of an ended task little follows: it is looked up again.
        return before, {task_id: state for task_id, state in after.items() if state not in TERMINAL}

    def _hand_out(self, began: Place, kinds: frozenset[Kind], news: News) -> float | None:
        """Return when a channel has something to give; None when the readers have changed: look again."""
        frames, place = news.frames, news.end
        with self._lock:
            if self._place != began or not self._kinds() <= kinds or not news.serves(self._channels):
                return None
            self._place, self._states = place, news.states_after
            channels = list(self._channels.values())
            kept_bytes = max(HANDED_BYTES, KEPT_BYTES // max(1, len(channels)))
            for channel in channels:
                channel.offer(pick(channel.selection, frames, news.facts, news.states), place, kept_bytes)
            readers = sum(len(channel.bells) for channel in channels)
        if frames:
            time.sleep(min(LONGEST_ROUND_SECONDS, max(SHORTEST_ROUND_SECONDS, readers * SECONDS_A_READER)))
        return min((channel.due_in() for channel in channels), default=float("inf"))
