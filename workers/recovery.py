"""When a sandbox's stream is lost: read on from the engine's log, or say what may be missing (design §2).

A stream is lost when the keeper dies, and when the engine restarts under a sandbox that lives on. What is stored by
then was counted (`intake.py`), so the engine's log, read from its beginning, goes on at exactly that byte. Without
such a log the stream is attached again, and a `gap` stands where output may be missing.
"""

from __future__ import annotations

import logging
import os
import time
from typing import NamedTuple

from workers.attempt import Attempt
from workers.holding import hand_over, sandbox_of
from workers.intake import Intake
from workers.keeper_client import Doorbell, KeeperRefused, KeeperUnavailable
from workers.sandbox.port import EngineUnavailable, LogUnavailable, SandboxError, SandboxGone
from workers.spool import END_MARKER
from workers.spool_streams import StreamKind, begin, last_stream

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
EXIT_SECONDS = 1.0
PROMPT_SECONDS = 0.25
"""An exit that the engine itself tells so soon after a stream's end: the engine was not away in between."""
OUTAGE_SECONDS = 2.0
CLOCK_SECONDS = 0.01
"""So coarse are the kernel's file times. A stream ends later than its sandbox by more than that."""


class _Loss(NamedTuple):
    """What a reader must be told: without the engine's log, and with it."""

    unaided: str
    recovered: str = ""


class _End(NamedTuple):
    """How the keeper ended a stream (`spool.END_REASONS`), and when (Unix seconds)."""

    reason: str
    at: float


_KEEPER_DIED = _Loss("output may be missing here: the keeper of this worker died while the task ran")
_CUT = _Loss("output may be missing here: the stream was shut while the disk or the spool was full")
_ENGINE_RESTARTED = _Loss(
    "output may be missing here: the engine was restarted while the task ran",
    "a few lines may be missing here: the engine was restarted while the task ran",
)
_LAST_LINES = _Loss("the last lines may be missing: the engine's log could not be read to its end")


def doorbell(attempt: Attempt, intake: Intake) -> Doorbell | None:
    """The keeper's doorbell for the attempt's sandbox, its stream replaced if it is lost.

    None when the spool is complete, or nothing can be added to it. Waits while engine or keeper are away, until the
    pump is abandoned.
    """
    while not (attempt.pump and attempt.pump.abandoned):
        try:
            return _doorbell(attempt, intake)
        except FileNotFoundError:  # the attempt's directory is gone: another one has ended it
            return None
        except (EngineUnavailable, KeeperUnavailable) as error:
            log.warning("output waits", extra={"task": attempt.claim.task_id, "error": str(error)})
            time.sleep(RETRY_SECONDS)
    return None


def _doorbell(attempt: Attempt, intake: Intake) -> Doorbell | None:
    keeper, spool = attempt.equipment.keeper, attempt.directory.spool
    if intake.broken and last_stream(spool).segment == intake.segment:
        return _attach_anew(attempt)
    end = _end_of(attempt)
    if end is None:
        try:
            return keeper.watch(sandbox_of(attempt))
        except KeeperRefused:  # this keeper does not hold it
            loss: _Loss | None = _KEEPER_DIED
    else:
        loss = _lost_after(attempt, end)
    return _replace(attempt, intake, loss) if loss else None


def _end_of(attempt: Attempt) -> _End | None:
    marker = attempt.directory.spool / END_MARKER
    try:
        return _End(marker.read_text(), marker.stat().st_mtime)
    except FileNotFoundError:
        return None


def _lost_after(attempt: Attempt, end: _End) -> _Loss | None:
    """What a stream that has ended lacks of what the sandbox said; None for nothing."""
    kind = last_stream(attempt.directory.spool).kind
    if kind is StreamKind.WHOLE_LOG:
        return None
    if kind is StreamKind.LOG:
        return _LAST_LINES if end.reason == "shut" or not _broken_off(attempt, end) else _ENGINE_RESTARTED
    if end.reason == "shut":
        return None
    if end.reason == "cut":
        return _CUT
    if attempt.signals.wait_exit(EXIT_SECONDS) and time.time() - end.at < PROMPT_SECONDS:
        return None
    return _ENGINE_RESTARTED if _engine_was_away(attempt, end) or _broken_off(attempt, end) else None


def _engine_was_away(attempt: Attempt, end: _End) -> bool:
    """An engine that was killed about when the stream ended may have had output that it did not pass on."""
    attempt.equipment.backend.ping()
    return attempt.equipment.outages.since(time.monotonic() - (time.time() - end.at) - OUTAGE_SECONDS)


def _broken_off(attempt: Attempt, end: _End) -> bool:
    """A stream ends after its sandbox, so one that ended before it was broken off by the engine."""
    attempt.signals.wait_exit(EXIT_SECONDS)
    try:
        found = attempt.equipment.backend.inspect(sandbox_of(attempt))
    except SandboxGone:
        return False
    return found.running or bool(found.finished_at and found.finished_at.timestamp() > end.at + CLOCK_SECONDS)


def _replace(attempt: Attempt, intake: Intake, loss: _Loss) -> Doorbell | None:
    backend, spool, sandbox = attempt.equipment.backend, attempt.directory.spool, sandbox_of(attempt)
    try:
        running = backend.inspect(sandbox).running
        if intake.countable:
            try:
                stream = backend.follow_log(sandbox)
            except LogUnavailable as error:
                log.info("output is not recovered", extra={"task": attempt.claim.task_id, "why": str(error)})
            else:
                kind = StreamKind.LOG if running else StreamKind.WHOLE_LOG
                return _hold(attempt, stream, kind, loss.recovered)
        if running:
            return _hold(attempt, backend.attach(sandbox), StreamKind.ATTACH, loss.unaided)
    except (SandboxError, KeeperRefused) as error:
        log.warning("output cannot be resumed", extra={"task": attempt.claim.task_id, "error": str(error)})
    begin(spool, StreamKind.ATTACH, loss.unaided)
    return None


def _attach_anew(attempt: Attempt) -> Doorbell | None:
    """The engine's log was of no use, which the reader has been told: go on with what the sandbox says from now."""
    backend, sandbox = attempt.equipment.backend, sandbox_of(attempt)
    try:
        attempt.equipment.keeper.shut(sandbox)
        if backend.inspect(sandbox).running:
            return _hold(attempt, backend.attach(sandbox), StreamKind.ATTACH, "")
    except (SandboxError, KeeperRefused) as error:
        log.warning("output cannot be resumed", extra={"task": attempt.claim.task_id, "error": str(error)})
    return None


def _hold(attempt: Attempt, stream: int, kind: StreamKind, gap: str) -> Doorbell | None:
    keeper, sandbox = attempt.equipment.keeper, sandbox_of(attempt)
    try:
        begin(attempt.directory.spool, kind, gap)
    except BaseException:
        os.close(stream)
        raise
    hand_over(attempt, stream, output_only=True)
    if attempt.pump and attempt.pump.abandoned:  # released a moment ago: nobody would release it again
        keeper.release(sandbox)
        return None
    return keeper.watch(sandbox)
