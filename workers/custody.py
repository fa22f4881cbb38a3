"""Who holds a sandbox's streams, and how it is let go: keeper, output pump, destruction."""

from __future__ import annotations

import logging
import os
import time

from workers.attempt import Attempt
from workers.keeper_client import Doorbell, KeeperRefused, KeeperUnavailable
from workers.output import OutputPump, Progress
from workers.records import gap
from workers.sandbox.port import EngineUnavailable, SandboxError, SandboxGone
from workers.spool import END_MARKER

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


def hold_output(attempt: Attempt) -> None:
    """Give the sandbox's streams to the keeper."""
    equipment, sandbox = attempt.equipment, sandbox_of(attempt)
    stream = equipment.backend.attach(sandbox)
    try:
        # The mark says whose doing the end was: the keeper's, not the command's.
        mark = attempt.directory.stopped_by_keeper
        stop = ["/bin/sh", "-c", ': > "$0"; exec "$@"', str(mark), *equipment.backend.stop_argv(sandbox)]
        equipment.keeper.hold(sandbox, stream, attempt.directory.spool, stop)
    finally:
        os.close(stream)


def start_pump(attempt: Attempt, progress: Progress) -> None:
    """Bring what the keeper spools into the journal, from where `progress` ends."""
    equipment = attempt.equipment
    attempt.pump = OutputPump(
        attempt.claim,
        attempt.directory.spool,
        lambda: _doorbell(attempt),
        equipment.writer,
        progress=progress,
        limit_bytes=equipment.product.settings.log_max_bytes,
        on_activity=attempt.signals.active,
    )
    attempt.pump.start()


def _doorbell(attempt: Attempt) -> Doorbell | None:
    """The keeper's doorbell for this sandbox; None when the spool is complete. A keeper that died is replaced."""
    keeper, sandbox = attempt.equipment.keeper, sandbox_of(attempt)
    try:
        return keeper.watch(sandbox)
    except KeeperRefused:  # this keeper does not hold it
        if (attempt.directory.spool / END_MARKER).exists():
            return None
    message = "output may be missing here: the keeper of this worker died while the task ran"
    attempt.equipment.writer.write(attempt.claim, [gap(message)])
    while True:
        try:
            if not attempt.equipment.backend.inspect(sandbox).running:
                return None
            hold_output(attempt)
            return keeper.watch(sandbox)
        except (EngineUnavailable, KeeperUnavailable) as error:
            log.warning("output waits", extra={"task": attempt.claim.task_id, "error": str(error)})
            time.sleep(RETRY_SECONDS)
        except (SandboxError, KeeperRefused) as error:
            log.warning("output cannot be resumed", extra={"task": attempt.claim.task_id, "error": str(error)})
            return None


def printed_since(attempt: Attempt) -> bool:
    """Tell whether the sandbox said anything since the last call, also while the journal does not take it."""
    try:
        held = attempt.equipment.keeper.held().get(sandbox_of(attempt))
    except (KeeperUnavailable, KeeperRefused):
        return False
    written = held.bytes_written if held else attempt.spooled_bytes
    grown, attempt.spooled_bytes = written > attempt.spooled_bytes, written
    return grown


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


def sandbox_of(attempt: Attempt) -> str:
    if attempt.sandbox is None:
        raise ValueError(f"task {attempt.claim.task_id} has no sandbox yet")
    return attempt.sandbox
