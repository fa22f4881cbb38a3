"""One reader of the event stream: first what is there, then what was missed, then what comes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from api.stream import frames
from api.stream.ears import ANYTHING, GOODBYE
from api.stream.frames import Frame, of_existing, of_record, rendered
from api.stream.hub import HANDED_BYTES, PAGE_ROWS, Channel, EventHub
from api.stream.picking import newest_of_each, pick, state_after
from api.stream.selection import Selection
from orchestrator import journal
from orchestrator.journal import Place
from orchestrator.models import Kind, ListedTask, Record, TaskFacts
from orchestrator.states import State
from orchestrator.store import segments, tasks
from orchestrator.store.database import Database

SNAPSHOT_TASKS = 500
"""Read at once of the tasks that are there."""
FIRST_ROWS = 16
LOOK_SECONDS = 5.0
"""How often a reader to which nothing is sent is looked at: whether it is still there, and may be."""
REMOVED = "records behind this cursor were removed or archived meanwhile; read each task's own log for what it said"
UNKNOWN_PLACE = "the store does not reach as far as this cursor: it was restored from a backup, or is another one"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one reader asked for. `after` None: from now on, with a snapshot of what is there if `snapshot`."""

    selection: Selection
    after: Place | None
    snapshot: bool
    heartbeat_seconds: float


@dataclass
class Reader:
    """Yields bytes in one form (`frames.SSE`, `frames.WEBSOCKET`) for whoever is at the other end of `connection`.

    `check` is called before each wait and each part, and soon after something came over the connection; it raises to
    end the reading. Raises `StoreUnavailable` besides.
    """

    database: Database
    hub: EventHub
    wanted: Wanted
    form: str
    connection: socket.socket | None
    check: Callable[[], None]
    _place: Place = field(default_factory=Place, init=False)
    _known: dict[str, int] = field(default_factory=dict, init=False)
    _known_until: Place = field(default_factory=Place, init=False)
    _horizon: Place = field(default_factory=Place, init=False)
    _beat_at: float = field(default=0.0, init=False)
    _is_told: bool = field(default=False, init=False)

    def __iter__(self) -> Iterator[bytes]:
        bell = threading.Event()
        self._beat_at = time.monotonic() + self.wanted.heartbeat_seconds
        heard = ANYTHING if self.form == frames.WEBSOCKET else GOODBYE
        with (
            self.hub.channel(self.wanted.selection, bell) as channel,
            self.hub.ears.on(self.connection, heard, bell.set) as listen,
        ):
            yield from self._beginning()
            while True:
                bell.clear()
                self.check()
                listen()
                is_late, before = self._place < channel.floor, self._place
                for part in self._next(channel):
                    self.check()
                    yield part
                if self._place == before and self._is_told:
                    bell.wait(max(0.0, min(self._beat_at - time.monotonic(), LOOK_SECONDS)))
                yield from self._heartbeat(is_behind=is_late)

    def _beginning(self) -> Iterator[bytes]:
        """What comes before the first record."""
        if self.wanted.after is None:
            yield from self._snapshot()
        else:
            self._place = self.wanted.after
            with self.database.read() as tx:
                begin, end = self._place, journal.horizon(tx, self.wanted.selection.kinds)
                newest = max(journal.newest(tx), journal.horizon(tx, frozenset(Kind)))
                missing, self._horizon = begin < end and self._was_cut(tx), end
            if begin > newest:
                self._place = newest
                yield self._rendered([frames.gap(begin, newest, UNKNOWN_PLACE)])
            elif missing:
                yield self._rendered([frames.gap(begin, end, REMOVED)])

    def _was_cut(self, tx: sa.Connection) -> bool:
        """Of one task it is known whether anything of its own is missing."""
        task_id = self.wanted.selection.task_id
        if task_id is None:
            return True
        task = tasks.get(tx, task_id)
        if task is None or task.purged_at is not None or tasks.lost_its_log(tx, task):
            return True
        is_archived = segments.following(tx, task_id, 0) is not None
        return is_archived and Kind.OUTPUT in self.wanted.selection.kinds

    def _snapshot(self) -> Iterator[bytes]:
        """The tasks that have not ended, each once, and then every record that is not in what was said of them."""
        selection = self.wanted.selection
        with self.database.read() as tx:
            self._place = journal.newest(tx)
            self._known = journal.ahead(tx)
        if not self.wanted.snapshot or "state_change" not in selection.types:
            return
        behind = None
        while True:
            with self.database.read() as tx:
                page = tasks.living(tx, behind, task_id=selection.task_id, owner=selection.owner, limit=SNAPSHOT_TASKS)
            picked = [(task, seq) for task, seq in page if self._is_asked_for(task)]
            self._known |= {task.id: seq for task, seq in picked}
            yield self._rendered([of_existing(task) for task, _ in picked])
            if len(page) < SNAPSHOT_TASKS:
                with self.database.read() as tx:
                    self._known_until = journal.latest(tx)
                return
            behind = (page[-1][0].created_at, page[-1][0].id)
            self.check()

    def _is_asked_for(self, task: ListedTask) -> bool:
        selection = self.wanted.selection
        facts = TaskFacts(task.id, task.name, task.labels, task.parent_id, task.owner)
        return selection.concerns(facts) and (not selection.states or task.state in selection.states)

    def _next(self, channel: Channel) -> Iterator[bytes]:
        found = channel.after(self._place)
        if found is None:
            yield from self._stored(channel)
            return
        batches, place = found
        for batch in batches:
            fresh = self._fresh(batch.frames)
            yield batch.rendered(self.form) if fresh is batch.frames else self._rendered(fresh)
            self._place = batch.end
        self._place = place

    def _stored(self, channel: Channel) -> Iterator[bytes]:
        """What the channel does not hold any more, page by page."""
        selection, limit, states = self.wanted.selection, FIRST_ROWS, dict[str, State | None]()
        while self._place < (floor := channel.floor):
            began = self._place
            with self.database.read() as tx:
                found, place = journal.all_after(
                    tx, began, kinds=selection.read_kinds, task_id=selection.task_id, limit=limit
                )
                if len(found) < limit:  # what was removed may have been the newest
                    place = max(place, journal.newest(tx), floor)
                end = journal.horizon(tx, selection.kinds)
                was_cut = end > max(began, self._horizon) and self._was_cut(tx)
            if was_cut:
                yield self._rendered([frames.gap(began, end, REMOVED)])
            self._horizon = max(end, self._horizon)
            facts, before = self.hub.facts_of(found), {}
            if selection.states:
                before = self.hub.states_before(found, states)
                states = _states_after(found, states | before)
            made = [of_record(record, facts[record.task_id]) for record in found if record.task_id in facts]
            size = sum(frame.size_bytes for frame in made)
            picked = self._fresh(pick(selection, made, facts, before))
            yield self._rendered(newest_of_each(picked) if selection.rate_limit_ms else picked)
            self._place = place
            yield from self._heartbeat(is_behind=True)
            limit = max(1, limit // 2) if size > HANDED_BYTES else min(2 * limit, PAGE_ROWS)

    def _fresh(self, found: list[Frame]) -> list[Frame]:
        """Without what the snapshot has told already. The same list when that is all of it."""
        if self._place >= self._known_until:
            self._known = {}
        if not self._known or not any(frame.record and frame.record.task_id in self._known for frame in found):
            return found
        return [frame for frame in found if self._is_fresh(frame)]

    def _is_fresh(self, frame: Frame) -> bool:
        record = frame.record
        if record is None or record.kind.is_aside:
            return True
        last = self._known.get(record.task_id, 0)
        if record.last_seq > last:
            self._known.pop(record.task_id, None)
            return True
        return False

    def _heartbeat(self, *, is_behind: bool) -> Iterator[bytes]:
        """Say that the connection lives, if it is time to; and at once that all is told that was there."""
        now = time.monotonic()
        if now < self._beat_at and (is_behind or self._is_told):
            return
        yield self._rendered([frames.heartbeat(self._place, is_behind=is_behind)])
        self._beat_at = now + self.wanted.heartbeat_seconds
        self._is_told = self._is_told or not is_behind

    def _rendered(self, made: list[Frame]) -> bytes:
        return rendered(made, self.form)


def _states_after(found: Sequence[Record], states: dict[str, State | None]) -> dict[str, State | None]:
    for record in found:
        states[record.task_id] = state_after(record, states[record.task_id])
    return states
