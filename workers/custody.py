"""Who holds a sandbox's streams, and how it is let go: keeper, output pump, destruction."""

from __future__ import annotations

import logging
import time

from workers.agent_output import AgentOutput
from workers.attempt import Attempt
from workers.holding import hand_over, sandbox_of
from workers.keeper_client import KeeperRefused, KeeperUnavailable
from workers.output import OutputPump, Progress
from workers.recovery import doorbell
from workers.sandbox.port import EngineUnavailable, SandboxError, SandboxGone

__all__ = ["destroy_sandbox", "has_ended", "hold_output", "printed_since", "sandbox_of", "shut_output", "start_pump"]

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


def hold_output(attempt: Attempt) -> None:
    """Give the sandbox's streams to the keeper, before the sandbox starts."""
    hand_over(attempt, attempt.equipment.backend.attach(sandbox_of(attempt)))


def start_pump(attempt: Attempt, progress: Progress, *, is_live: bool = True) -> None:
    """Bring what the keeper spools into the journal, from where `progress` ends."""
    equipment, marker = attempt.equipment, attempt.directory.log_marker()
    progress.intake.marker = f"{marker}\n".encode() if marker else b""
    progress.redaction.use(attempt.redactor, attempt.withheld)
    reader = attempt.agent.reader(attempt.manifest, attempt.seen)
    limit_bytes = equipment.product.settings.log_max_bytes
    agent = None
    if reader is not None:
        kept, is_whole = attempt.directory.agent_stream, progress.stream_is_whole
        agent = AgentOutput(reader, kept, progress.stream_bytes, limit_bytes, is_whole=is_whole)
    attempt.pump = OutputPump(
        attempt.claim,
        attempt.directory.spool,
        lambda: doorbell(attempt, progress.intake),
        equipment.writer,
        progress=progress,
        limit_bytes=limit_bytes,
        on_activity=attempt.signals.active,
        agent=agent,
        is_live=is_live,
    )
    attempt.pump.start()


def printed_since(attempt: Attempt) -> bool:
    """Tell whether the sandbox said anything since the last call, also while the journal does not take it."""
    try:
        held = attempt.equipment.keeper.held().get(sandbox_of(attempt))
    except (KeeperUnavailable, KeeperRefused):
        return False
    written = held.bytes_written if held else attempt.spooled_bytes
    # Fewer is another stream, in which the keeper counts anew.
    grown, attempt.spooled_bytes = written != attempt.spooled_bytes, written
    return grown


def has_ended(attempt: Attempt) -> bool:
    """Ask the engine itself; an engine that does not answer says nothing."""
    try:
        found = attempt.equipment.backend.inspect(sandbox_of(attempt))
    except SandboxGone:
        return True
    except (EngineUnavailable, SandboxError):
        return False
    return found.started and not found.running


def shut_output(attempt: Attempt, *, only_if_idle: bool = False) -> None:
    """Let the engine go of the stream: unread, it would hold up the sandbox's end (finding 4)."""
    keeper, sandbox = attempt.equipment.keeper, sandbox_of(attempt)
    try:
        held = keeper.held().get(sandbox)
        if held and held.eof is None and not (only_if_idle and held.paused):
            keeper.shut(sandbox)
    except (KeeperUnavailable, KeeperRefused) as error:
        log.warning("stream not shut", extra={"task": attempt.claim.task_id, "error": str(error)})


def destroy_sandbox(attempt: Attempt) -> None:
    """Undo of the sandbox; returns only when it is gone. The stream is shut before the kill (finding 4)."""
    if attempt.sandbox is None:
        return
    if attempt.pump is not None:  # which would take the end of its stream for a loss, and have it held again
        attempt.pump.abandon()
    while True:
        try:
            attempt.equipment.keeper.release(attempt.sandbox)
            attempt.equipment.backend.destroy(attempt.sandbox)
            return
        except SandboxGone:
            return
        except (EngineUnavailable, SandboxError, KeeperUnavailable) as error:
            log.warning("sandbox not destroyed yet", extra={"task": attempt.claim.task_id, "error": str(error)})
            time.sleep(RETRY_SECONDS)
