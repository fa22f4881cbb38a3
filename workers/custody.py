"""Who holds a sandbox's streams, and how it is let go: keeper, output pump, destruction."""

from __future__ import annotations

import logging
import os
import time

from workers.attempt import Attempt
from workers.keeper_client import Doorbell, KeeperRefused, KeeperUnavailable
from workers.output import OutputPump, Progress
from workers.records import gap
from workers.sandbox.port import EngineUnavailable, SandboxError
from workers.spool import END_MARKER

log = logging.getLogger(__name__)

DESTROY_RETRY_SECONDS = 1.0


def hold_output(attempt: Attempt) -> None:
    """Give the sandbox's streams to the keeper."""
    equipment, sandbox = attempt.equipment, sandbox_of(attempt)
    stream = equipment.backend.attach(sandbox)
    try:
        stop = equipment.backend.stop_argv(sandbox)
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
    try:
        if not attempt.equipment.backend.inspect(sandbox).running:
            return None
        hold_output(attempt)
        return keeper.watch(sandbox)
    except (SandboxError, KeeperRefused) as error:
        log.warning("output cannot be resumed", extra={"task": attempt.claim.task_id, "error": str(error)})
        return None


def destroy_sandbox(attempt: Attempt) -> None:
    """Undo of the sandbox: the stream is shut before the kill, else the engine may hang on it (finding 4)."""
    if attempt.sandbox is None:
        return
    while True:
        try:
            attempt.equipment.keeper.release(attempt.sandbox)
            attempt.equipment.backend.destroy(attempt.sandbox)
            return
        except (EngineUnavailable, KeeperUnavailable) as error:
            log.warning("sandbox not destroyed yet", extra={"task": attempt.claim.task_id, "error": str(error)})
            time.sleep(DESTROY_RETRY_SECONDS)


def sandbox_of(attempt: Attempt) -> str:
    if attempt.sandbox is None:
        raise ValueError(f"task {attempt.claim.task_id} has no sandbox yet")
    return attempt.sandbox
