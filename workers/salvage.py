"""What an attempt left on this host after it had ended elsewhere: stop it, store log and artifacts, remove the rest.

The attempt of a worker that was lost ends in the store without what its host holds, and so does one whose
artifacts the storage did not take. The host's worker brings it in as soon as it can (design §4).
"""

from __future__ import annotations

import errno
import logging
import time
from contextlib import suppress
from dataclasses import replace

from orchestrator.artifacts import ArtifactStoreUnavailable
from orchestrator.journal import StaleClaim
from orchestrator.models import Attempt as AttemptRow
from orchestrator.models import Claim, Task
from orchestrator.store import attempts as attempt_rows
from workers.attempt import Attempt
from workers.custody import destroy_sandbox, start_pump
from workers.ending import drain, forget_spool, gather, leaves_anything, store_artifacts
from workers.equipment import Equipment
from workers.journal_writer import LateWriter
from workers.keeper_client import KeeperRefused
from workers.output import Progress
from workers.patience import patiently
from workers.records import gap
from workers.sandbox.labels import ROLE, ROLE_TASK, claim_of
from workers.sandbox.port import SandboxError, SandboxGone
from workers.secret_custody import recall
from workers.workspace import AttemptDirectory

log = logging.getLogger(__name__)

STOP_WAIT_SECONDS = 10.0
TRIES = 5
FULL = (errno.ENOSPC, errno.EDQUOT)


def salvage(equipment: Equipment, only: Claim | None = None) -> None:
    """Bring in what this worker still holds of ended attempts; with `only`, of that one.

    What cannot be stored now stays for the next call. Raises `EngineUnavailable`, `StoreUnavailable`.
    """
    with equipment.salvaging:  # one at a time, and each sees what the one before has stored
        with equipment.product.database.read() as tx:
            left = attempt_rows.uncollected_on(tx, equipment.product.settings.worker_name)
        for task, row in left:
            if only is not None and row.claim != only:
                continue
            try:
                _bring_in(equipment, task, row)
            except (SandboxError, KeeperRefused) as error:  # the others must not wait for this one
                log.warning("what an attempt left stays for now", extra={"task": task.id, "error": str(error)})


def _bring_in(equipment: Equipment, task: Task, row: AttemptRow) -> None:
    late = replace(equipment, writer=LateWriter(equipment.product.database))
    sandbox = _sandbox(equipment, row) or row.sandbox
    attempt = Attempt(late, task, row.claim, state=row.state, commit=row.commit, sandbox=sandbox)
    attempt.verdict = row.verdict or {}
    attempt.seen = row.agent
    try:
        if attempt.directory.root.exists():
            stop_now(attempt)
            found = _found(attempt)
            _store_all(attempt, row)
            attempt.say(f"worker {row.worker} had attempt {row.number} again ({found}) and stored what it had left")
            log.info("what an attempt left was stored", extra={"task": task.id, "attempt": row.number})
    except StaleClaim:
        log.info("nothing to collect any more", extra={"task": task.id, "attempt": row.number})
    except (ArtifactStoreUnavailable, OSError, ValueError) as error:
        if _passes(equipment, row.claim, error):
            log.warning("what an attempt left cannot be stored yet", extra={"task": task.id, "error": str(error)})
            return
        _write_off(attempt, row, error)
    equipment.salvage_failures.pop(row.claim, None)
    if not row.preserved:  # which is destroyed when its time is over
        destroy_sandbox(attempt)
    _say_collected(attempt)
    if not row.preserved:
        try:
            attempt.directory.destroy()
        except OSError as error:  # an orphan from here on, which is removed as soon as that can be done
            log.warning("directory not removed yet", extra={"task": task.id, "error": str(error)})


def _passes(equipment: Equipment, claim: Claim, error: Exception) -> bool:
    """Tell whether another try makes sense: a storage comes back, a full disk gets room; else only a few times."""
    if isinstance(error, ArtifactStoreUnavailable):
        return True
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    equipment.salvage_failures[claim] += 1
    return equipment.salvage_failures[claim] < TRIES


def _write_off(attempt: Attempt, row: AttemptRow, error: Exception) -> None:
    """Say what is lost. What the worker cannot read now, it could not read tomorrow."""
    lost = gap(
        f"what attempt {row.number} left on worker {row.worker} is lost (the end of its log, and artifacts that are "
        f"not listed): it could not be read in {TRIES} tries: {error}"
    )
    log.error("what an attempt left is lost", extra={"task": row.task_id, "error": str(error)})
    with suppress(StaleClaim):
        attempt.equipment.writer.write(attempt.claim, [lost])


def _say_collected(attempt: Attempt) -> None:
    def collected() -> None:
        with attempt.equipment.product.database.write() as tx:
            attempt_rows.mark_collected(tx, attempt.claim)

    patiently(collected)


def _store_all(attempt: Attempt, row: AttemptRow) -> None:
    recall(attempt, time.sleep)
    if attempt.sandbox is not None and attempt.directory.spool.is_dir():  # else it is stored already
        progress = Progress.load(row.spool_offset, row.output_bytes, row.dropped_bytes)
        start_pump(attempt, progress, is_live=False)
        drain(attempt)
        forget_spool(attempt)
    done = attempt.verdict.get("collected") or attempt.verdict.get("dropped")
    if done or not leaves_anything(attempt):
        return
    attempt.directory.restore()
    if not attempt.directory.workspace.is_dir():
        return
    attempt.equipment.product.artifacts.ping()  # while it is away, no filter of the task's is run for nothing
    attempt.within(attempt.manifest.lifecycle.collect_timeout_seconds)
    found = gather(attempt, attempt.phase_deadline)
    store_artifacts(attempt, found, verdict=attempt.verdict | {"collected": True})


def _found(attempt: Attempt) -> str:
    try:
        found = attempt.equipment.backend.inspect(attempt.sandbox or "")
    except SandboxError:
        return "its sandbox is gone"
    return f"its sandbox ended with exit code {found.exit_code}"


def _sandbox(equipment: Equipment, row: AttemptRow) -> str | None:
    """The attempt's sandbox, if there is one: also one whose id did not reach the store."""
    for found in equipment.backend.find():
        if claim_of(found.labels) == row.claim and found.labels.get(ROLE) == ROLE_TASK:
            return found.id
    return None


def stop_now(attempt: Attempt) -> None:
    """Kill the sandbox: another attempt may run by now. Its output so far goes on to the spool."""
    if attempt.sandbox is None:
        return
    backend = attempt.equipment.backend
    deadline = time.monotonic() + STOP_WAIT_SECONDS
    try:
        backend.kill(attempt.sandbox, "KILL")
        while backend.inspect(attempt.sandbox).running and time.monotonic() < deadline:
            time.sleep(0.05)
    except SandboxGone:
        return


def leave_behind(attempt: Attempt) -> None:
    """The claim was lost while this worker had it: stop at once, store what may be stored, remove the rest.

    Raises `EngineUnavailable`, `StoreUnavailable`: the worker's next look around goes on with it.
    """
    stop_now(attempt)
    if attempt.pump is not None:  # another one reads the spool from here on
        attempt.pump.abandon()
        attempt.pump.wait_end(STOP_WAIT_SECONDS)
    equipment = attempt.equipment
    with equipment.product.database.read() as tx:
        left = attempt_rows.uncollected_on(tx, equipment.product.settings.worker_name)
    if attempt.claim in {row.claim for _, row in left}:
        salvage(equipment, attempt.claim)
    else:
        destroy_sandbox(attempt)
        AttemptDirectory.of(equipment.product.settings.work_dir, attempt.claim).destroy()
