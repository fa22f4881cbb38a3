"""What an attempt left on this host after it had ended elsewhere: stop it, store log and artifacts, remove the rest.

The attempt of a worker that was lost ends in the store without what its host holds, and so does one whose
artifacts the storage did not take. The host's worker brings it in as soon as it can (design §4).
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from orchestrator.artifacts import ArtifactStoreUnavailable
from orchestrator.journal import StaleClaim
from orchestrator.models import Attempt as AttemptRow
from orchestrator.models import Claim, Task
from orchestrator.store import attempts as attempt_rows
from workers.attempt import Attempt
from workers.custody import destroy_sandbox, start_pump
from workers.ending import drain, gather, leaves_anything, store_artifacts
from workers.equipment import Equipment
from workers.journal_writer import LateWriter
from workers.keeper_client import KeeperRefused
from workers.output import Progress
from workers.patience import patiently
from workers.sandbox.labels import ROLE, ROLE_TASK, claim_of
from workers.sandbox.port import SandboxError, SandboxGone
from workers.secret_custody import recall
from workers.workspace import AttemptDirectory

log = logging.getLogger(__name__)

STOP_WAIT_SECONDS = 10.0


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
            except (SandboxError, KeeperRefused, ValueError) as error:  # the others must not wait for this one
                log.warning("what an attempt left stays for now", extra={"task": task.id, "error": str(error)})


def _bring_in(equipment: Equipment, task: Task, row: AttemptRow) -> None:
    late = replace(equipment, writer=LateWriter(equipment.product.database))
    sandbox = _sandbox(equipment, row) or row.sandbox
    attempt = Attempt(late, task, row.claim, state=row.state, commit=row.commit, sandbox=sandbox)
    attempt.verdict = row.verdict or {}
    try:
        if attempt.directory.root.exists():
            stop_now(attempt)
            attempt.directory.restore()
            found = _found(attempt)
            _store_all(attempt, row)
            attempt.say(f"worker {row.worker} had attempt {row.number} again ({found}) and stored what it had left")
            log.info("what an attempt left was stored", extra={"task": task.id, "attempt": row.number})
    except StaleClaim:
        log.info("nothing to collect any more", extra={"task": task.id, "attempt": row.number})
    except (ArtifactStoreUnavailable, OSError) as error:
        log.warning("what an attempt left cannot be stored yet", extra={"task": task.id, "error": str(error)})
        return
    if not row.preserved:  # which is destroyed when its time is over
        destroy_sandbox(attempt)
        attempt.directory.destroy()
    _say_collected(attempt)


def _say_collected(attempt: Attempt) -> None:
    def collected() -> None:
        with attempt.equipment.product.database.write() as tx:
            attempt_rows.mark_collected(tx, attempt.claim)

    patiently(collected)


def _store_all(attempt: Attempt, row: AttemptRow) -> None:
    if attempt.sandbox is not None:
        recall(attempt)
        start_pump(attempt, Progress.load(row.spool_offset, row.output_bytes, row.dropped_bytes))
        drain(attempt)
    if attempt.verdict.get("collected") or not leaves_anything(attempt) or not attempt.directory.workspace.is_dir():
        return
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
