"""From the keeper's spool to the journal: one pump an attempt (design §4, §5)."""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from orchestrator import clock, journal
from orchestrator.journal import StaleClaim
from orchestrator.models import Claim, NewRecord
from orchestrator.store import conversation, progress
from workers.agent_output import AgentOutput, Heard
from workers.intake import Gap, Intake, Taken
from workers.journal_writer import Writer
from workers.keeper_client import Doorbell, Ring
from workers.output_redaction import OutputRedaction
from workers.records import gap, progress_made, words
from workers.said_lines import SaidLines, SaidProgress
from workers.spool import Chunk, SpoolOffset, SpoolReader
from workers.spool_streams import last_stream, stream_at

log = logging.getLogger(__name__)

READ_BYTES = 1 << 20
EVENT_BYTES = 256
"""What a record costs beside its text."""
BATCH_SECONDS = 0.05
IDLE_SECONDS = 5.0
SAID_SECONDS = 1.0
HOLD_SECONDS = 0.25
"""How long an unfinished line waits for its end before it is delivered as it is."""


@dataclass
class Progress:
    """How far the output of an attempt is stored: what a restarted worker needs to go on exactly there.

    `held` are unfinished lines, without secrets: what may become one is held back by `redaction`, which stores none.
    """

    offset: SpoolOffset = field(default_factory=lambda: SpoolOffset(0, 0))
    intake: Intake = field(default_factory=Intake)
    redaction: OutputRedaction = field(default_factory=OutputRedaction)
    held: dict[str, bytes] = field(default_factory=dict)
    stored_bytes: int = 0
    dropped_bytes: int = 0
    told_bytes: int = 0
    """Of the dropped ones, those that a `gap` has told of."""
    stream_bytes: int = 0
    """Of the file that keeps an agent's stream."""
    stream_is_whole: bool = True
    event_bytes: int = 0
    """Of the events and the progress that were told of it."""
    said: SaidLines = field(default_factory=SaidLines)
    earlier_bytes: int = 0
    """Of the task's output before this attempt."""

    def dump(self) -> str:
        held = {stream: base64.b64encode(data).decode() for stream, data in self.held.items() if data}
        state = {"offset": str(self.offset), "held": held, "told": self.told_bytes, **self.intake.dump()}
        if redaction := self.redaction.dump():
            state["redaction"] = redaction
        if said := self.said.dump():
            state["said"] = said
        if self.event_bytes:
            state["events"] = self.event_bytes
        if self.stream_bytes:
            state["stream"], state["whole"] = self.stream_bytes, self.stream_is_whole
        return json.dumps(state, separators=(",", ":"))

    @classmethod
    def load(cls, stored: str | None, stored_bytes: int, dropped_bytes: int) -> Progress:
        if stored is None:
            return cls()
        state = json.loads(stored)
        return cls(
            SpoolOffset.parse(state["offset"]),
            Intake.load(state),
            OutputRedaction(state.get("redaction")),
            {stream: base64.b64decode(data) for stream, data in state["held"].items()},
            stored_bytes,
            dropped_bytes,
            state.get("told", 0),
            state.get("stream", 0),
            state.get("whole", True),
            state.get("events", 0),
            SaidLines(state.get("said")),
        )


class OutputPump:
    """Reads the spool whenever the keeper rings, and writes lines to the journal until the end of the stream.

    `open_doorbell` is called at the start, and again when the keeper died, when the stream ended, and when the
    engine's log cannot be used; it returns None when nothing will be added to the spool any more. `agent`, if given,
    reads standard output; without it, what a command says of itself is read on both streams. What either tells of the
    task is stored where the attempt `is_live`, and not when it ended long ago.
    """

    def __init__(
        self,
        claim: Claim,
        spool_dir: Path,
        open_doorbell: Callable[[], Doorbell | None],
        writer: Writer,
        *,
        progress: Progress,
        limit_bytes: int,
        on_activity: Callable[[], None],
        agent: AgentOutput | None = None,
        is_live: bool = True,
    ) -> None:
        self._claim = claim
        self._open_doorbell = open_doorbell
        self._writer = writer
        self._progress = progress
        self._redaction = progress.redaction
        self._limit = limit_bytes
        self._on_activity = on_activity
        self._agent = agent
        self._is_live = is_live
        self._heard = Heard()
        self._said = progress.said if agent is None and is_live else None
        self._tools = _tools(agent.seen) if agent is not None else None
        self._reader = SpoolReader(spool_dir, progress.offset)
        self._stored_offset = progress.offset
        self._segment = -1
        self._held_since: float | None = None
        self._said_at = float("-inf")
        self._ended = threading.Event()
        self._hurry = threading.Event()
        self._abandoned = threading.Event()
        self._complete = False
        self._thread = threading.Thread(target=self._run, name=f"output-{claim.task_id}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait_end(self, timeout_seconds: float) -> bool:
        """Block until everything the command printed is stored; false when the time is over."""
        self._hurry.set()
        return self._ended.wait(timeout_seconds)

    def abandon(self) -> None:
        """Read no more: the attempt ends without the rest."""
        self._abandoned.set()

    @property
    def abandoned(self) -> bool:
        return self._abandoned.is_set()

    @property
    def seen(self) -> dict[str, Any] | None:
        """What is known of the agent's run; None when nobody reads its output."""
        return self._agent.seen if self._agent is not None else None

    @property
    def stream_is_whole(self) -> bool:
        """False when the file that keeps an agent's stream lacks some of it."""
        return self._agent is None or self._agent.is_whole

    @property
    def complete(self) -> bool:
        """True once everything that the spool holds is stored."""
        return self._complete

    def _run(self) -> None:
        try:
            self._pump()
            self._finish()
            self._complete = not self.abandoned
        except StaleClaim:
            log.info("claim lost, output is dropped", extra={"task": self._claim.task_id})
        except Exception as error:  # the attempt must end even when its log cannot be read
            log.exception("output pump failed", extra={"task": self._claim.task_id})
            with suppress(StaleClaim):
                self._writer.write(self._claim, [gap(f"the rest of the log could not be read: {error}")])
        finally:
            self._reader.close()
            self._ended.set()

    def _pump(self) -> None:
        flushed_at = 0.0
        doorbell = self._open_doorbell()
        ring: Ring | None = None
        try:
            while True:
                # A lone line goes out at once, a burst becomes few rows; nobody waits once the command has ended.
                self._hurry.wait(max(0.0, flushed_at + BATCH_SECONDS - time.monotonic()))
                chunks = self._reader.read(READ_BYTES)
                if chunks:
                    self._on_activity()
                    stored = self._store(chunks)
                    flushed_at = time.monotonic() if stored and _small(chunks) else 0.0
                    continue
                if doorbell is None or self.abandoned:
                    return
                ended = self._reader.at_end()
                if ring == "eof" and not ended:
                    return  # released: whoever did that wants no more of it
                if ended or ring == "lost" or self._log_is_of_no_use():
                    doorbell.close()
                    doorbell, ring = self._open_doorbell(), None
                    continue
                self._flush_held(older_than=HOLD_SECONDS)
                if self._news_are_due:
                    self._write([])
                ring = doorbell.wait(self._longest_wait())
        finally:
            if doorbell is not None:
                doorbell.close()

    def _longest_wait(self) -> float:
        if self._held_since:
            return HOLD_SECONDS
        return SAID_SECONDS if self._has_news else IDLE_SECONDS

    def _log_is_of_no_use(self) -> bool:
        intake = self._progress.intake
        return intake.broken and intake.segment == last_stream(self._reader.directory).segment

    def _store(self, chunks: list[Chunk]) -> bool:
        """Write what the chunks hold; false when they hold nothing for the journal."""
        records: list[NewRecord] = []
        for chunk in chunks:
            at = datetime.fromtimestamp(chunk.arrived_at, UTC)
            records += self._records(self._enter(chunk), at)
            records += self._records(self._progress.intake.take(chunk.data), at)
        self._held_since = time.monotonic() if any(self._progress.held.values()) else None
        self._progress.offset = chunks[-1].end
        if not (records or self._news_are_due) and self._progress.offset.segment == self._stored_offset.segment:
            return False  # what is only held is read again from the spool, should this process die
        self._write(records)
        self._reader.delete_before(self._progress.offset)
        return True

    def _enter(self, chunk: Chunk) -> list[Taken]:
        """Tell the intake when a chunk is the first one of another stream."""
        if chunk.end.segment == self._segment:
            return []
        self._segment = chunk.end.segment
        start = stream_at(self._reader.directory, self._segment)
        return self._progress.intake.begin(start) if start.segment > self._progress.intake.segment else []

    def _records(self, taken: list[Taken], at: datetime) -> list[NewRecord]:
        records: list[NewRecord] = []
        for one in taken:
            if isinstance(one, Gap):
                for stream, masked in self._redaction.sever().items():
                    records += self._lines(stream, masked, at)
                records += [*self._held_rows(at), gap(one.message)]
                if self._agent is not None:
                    self._agent.sever()
                if self._said is not None:
                    self._said.sever()
            else:
                records += self._lines(one.stream, self._redaction.take(one.stream, one.data), at)
        if taken and (why := self._redaction.reason_to_tell()):
            records += [*self._held_rows(at), gap(why)]
        return records

    def _held_rows(self, at: datetime) -> list[NewRecord]:
        """All unfinished lines as they are: nothing will be added to them."""
        held, self._progress.held = self._progress.held, {}
        return [row for stream, data in held.items() for row in self._rows(stream, data, at)]

    def _lines(self, stream: str, data: bytes, at: datetime) -> list[NewRecord]:
        """Whole lines of one stream as rows; the unfinished rest is held back."""
        data = self._progress.held.pop(stream, b"") + data
        end = data.rfind(b"\n") + 1
        if len(data) - end >= journal.PIECE_BYTES:
            end = journal.whole_characters(data, len(data))
        if end < len(data):
            self._progress.held[stream] = data[end:]
        return self._rows(stream, data[:end], at)

    def _rows(self, stream: str, data: bytes, at: datetime) -> list[NewRecord]:
        if self._agent is not None and stream == "stdout" and data:
            return self._told(self._agent.take(data, at), at)
        rows = self._output_rows(stream, data, at)
        if self._said is not None:
            rows += [words(told, at) for told in self._said.take(stream, data, at)]
        return rows

    def _told(self, heard: Heard, at: datetime) -> list[NewRecord]:
        """Rows for what an agent has said; what it asks is stored together with them.

        What is told of it has a limit of its own, as large as that of what it printed.
        """
        told = []
        for record in heard.records:
            told += self._limited(record)
        self._heard.asked += heard.asked
        self._heard.withdrawn += heard.withdrawn
        return self._output_rows("stdout", heard.shown, at) + told

    def _limited(self, record: NewRecord) -> list[NewRecord]:
        """The record, or nothing of it where the limit is reached."""
        size = len(json.dumps(record.body)) + EVENT_BYTES
        if self._progress.event_bytes + size > self._limit:
            self._progress.dropped_bytes += size
            return []
        self._progress.event_bytes += size
        return [record]

    def _output_rows(self, stream: str, data: bytes, at: datetime) -> list[NewRecord]:
        room = max(0, self._limit - self._progress.stored_bytes)
        if len(data) > room:
            self._progress.dropped_bytes += len(data) - room
            data = data[:room]
        self._progress.stored_bytes += len(data)
        rows = []
        while data:
            end = len(data) if len(data) <= journal.ROW_BYTES else data.rfind(b"\n", 0, journal.ROW_BYTES) + 1
            end = end or journal.whole_characters(data, journal.PIECE_BYTES)
            rows.append(journal.output(stream, data[:end], at))
            data = data[end:]
        return rows

    def _flush_held(self, older_than: float) -> None:
        """Deliver unfinished lines as they are; half a character waits for its other half."""
        if self._held_since is None or time.monotonic() - self._held_since < older_than:
            return
        held, self._progress.held, self._held_since = self._progress.held, {}, None
        now, rows = datetime.now(UTC), []
        for stream, data in held.items():
            end = journal.whole_characters(data, len(data))
            rows += self._rows(stream, data[:end], now)
            if end < len(data):
                self._progress.held[stream] = data[end:]
        self._write(rows)

    @property
    def _has_news(self) -> bool:
        return self._said is not None and self._said.has_news

    @property
    def _news_are_due(self) -> bool:
        """Stored apart at most once a second: a few bytes of a command may change all that there is to store."""
        is_time = self._hurry.is_set() or time.monotonic() - self._said_at >= SAID_SECONDS
        return self._has_news and is_time

    def _write(self, records: list[NewRecord]) -> None:
        progress, agent, facts = self._progress, self._agent, dict[str, Any]()
        beside: Callable[[sa.Connection], None] | None = None
        if agent is not None:
            progress.stream_bytes, progress.stream_is_whole = agent.size_bytes, agent.is_whole
            if changes := agent.changes():
                facts["agent"] = changes
                records = [*records, *self._tools_told(changes)]
            heard, self._heard = self._heard, Heard()
            if self._is_live and (changes or heard.asked or heard.withdrawn):
                beside = partial(_save_heard, self._claim, heard, changes)
        elif self._said is not None and self._news_are_due:
            self._said_at = time.monotonic()
            newest, outputs = self._said.news()
            if newest is not None:
                made = progress_made(newest.at, self._task_bytes, percent=newest.percent, text=newest.text)
                records = [*records, *self._limited(made)]
            beside = partial(_save_said, self._claim, newest, outputs)
        facts |= {"output_bytes": progress.stored_bytes, "dropped_bytes": progress.dropped_bytes}
        self._writer.write(self._claim, records, beside=beside, spool_offset=progress.dump(), **facts)
        self._stored_offset = progress.offset

    def _tools_told(self, changes: Mapping[str, Any]) -> list[NewRecord]:
        """How far an agent is, where that has changed."""
        before, self._tools = self._tools, _tools(changes)
        if not self._is_live or self._tools == before:
            return []
        tool_calls, current_tool = self._tools
        return self._limited(
            progress_made(clock.now(), self._task_bytes, tool_calls=tool_calls, current_tool=current_tool)
        )

    @property
    def _task_bytes(self) -> int:
        return self._progress.earlier_bytes + self._progress.stored_bytes

    def _finish(self) -> None:
        self._hurry.set()  # nothing will be read behind this: what is to be stored is due, however lately it was before
        now, intake = datetime.now(UTC), self._progress.intake
        last = last_stream(self._reader.directory)
        records = self._records(intake.begin(last), now) if last.segment > intake.segment else []
        records += self._records(intake.finish(), now)
        for stream, rest in self._redaction.finish().items():
            records += self._lines(stream, rest, now)
        records += self._held_rows(now)
        if self._agent is not None:
            records += self._told(self._agent.finish(now), now)
        forgot = self._said is not None and self._said.finish()
        if records or self._agent is not None or self._has_news or forgot:
            self._write(records)
        dropped = self._progress.dropped_bytes - self._progress.told_bytes
        if dropped:
            self._progress.told_bytes += dropped
            self._write([gap(f"{dropped} bytes were dropped: the log limit was reached", dropped)])


def _tools(seen: Mapping[str, Any]) -> tuple[int, str | None]:
    return seen["tool_calls"], seen["current_tool"]


def _save_said(claim: Claim, newest: SaidProgress | None, outputs: Mapping[str, str] | None, tx: sa.Connection) -> None:
    """What a command says of itself, beside what it printed."""
    if newest is not None:
        progress.save_said(tx, claim, newest.percent, newest.text)
    if outputs is not None:
        progress.save_outputs(tx, claim, outputs)


def _save_heard(claim: Claim, heard: Heard, changes: dict[str, Any] | None, tx: sa.Connection) -> None:
    """What an agent asks and does, beside what it said. Raises `StaleClaim`."""
    if heard.asked:
        conversation.ask(tx, claim, heard.asked)
    if heard.withdrawn:
        conversation.withdraw(tx, claim, heard.withdrawn, clock.now())
    if changes is not None:
        progress.save_tools(tx, claim, changes["tool_calls"], changes["current_tool"])


def _small(chunks: list[Chunk]) -> bool:
    return sum(len(chunk.data) for chunk in chunks) < journal.ROW_BYTES
