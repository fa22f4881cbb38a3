"""A worker that starts again takes back what it had: running sandboxes go on, the rest is cleaned up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

from orchestrator.journal import StaleClaim
from orchestrator.models import Attempt as AttemptRow
from orchestrator.models import Claim, Task
from orchestrator.services.cancel import conclude_cancelled
from orchestrator.services.conclude import CancelRequested, give_back
from orchestrator.states import RAN
from orchestrator.store import attempts as attempt_rows
from orchestrator.store.database import StoreUnavailable
from workers import boot_clock
from workers.attempt import Attempt
from workers.custody import destroy_sandbox
from workers.equipment import Equipment
from workers.keeper_client import KeeperRefused, KeeperUnavailable
from workers.output import Progress
from workers.sandbox.labels import claim_of
from workers.sandbox.port import EngineUnavailable, Found, Image, SandboxError, SandboxGone
from workers.supervisor import Verdict
from workers.way_out import count_on
from workers.workspace import AttemptDirectory

log = logging.getLogger(__name__)


def adopt(
    equipment: Equipment, held: Callable[[], Collection[Claim]], resume: Callable[[Attempt, Verdict | None], None]
) -> None:
    """Take back every live attempt of this worker but those in `held()`, then remove what belongs to none.

    `resume` goes on with an attempt that had begun to run; the verdict is given when it was being ended
    already. Raises `EngineUnavailable`, `StoreUnavailable`, `KeeperUnavailable`: call again; and after all others
    were taken back, what kept one of them from it.
    """
    name = equipment.product.settings.worker_name
    equipment.disks.chosen()  # before anything is removed: trying it makes a directory there
    with equipment.product.database.write() as tx:  # behind the last word of the worker before us, commit included
        live = attempt_rows.live_on(tx, name, for_update=True)
    busy = held()  # after the read: what was claimed since is not in it
    sandboxes = equipment.backend.find()
    failures = []
    for task, row in live:
        if row.claim in busy:
            continue
        try:
            _take_back(equipment, task, row, sandboxes, resume)
        except (EngineUnavailable, StoreUnavailable, KeeperUnavailable):
            raise
        except (SandboxError, KeeperRefused, OSError, ValueError) as error:  # the others must not wait for this one
            log.exception("attempt not taken back yet", extra={"task": task.id, "attempt": row.number})
            failures.append(error)
    restore_preserved(equipment)
    remove_orphans(equipment, held)
    if failures:
        raise failures[0]


def _take_back(
    equipment: Equipment,
    task: Task,
    row: AttemptRow,
    sandboxes: Iterable[Found],
    resume: Callable[[Attempt, Verdict | None], None],
) -> None:
    if task.state in RAN and not _waits_at_gate(equipment, row):
        attempt = restored(equipment, task, row)
        log.info("attempt adopted", extra={"task": task.id, "attempt": row.number, "state": task.state})
        resume(attempt, _stored_verdict(row))
        return
    for found in sandboxes:
        if claim_of(found.labels) == row.claim:
            _destroy(equipment, found)
    AttemptDirectory.of(equipment.product.settings.work_dir, row.claim).destroy()
    name = equipment.product.settings.worker_name
    _give_back(equipment, row.claim, f"worker {name} was started again before the task ran")


def _destroy(equipment: Equipment, found: Found) -> None:
    """The keeper lets go first: a stream nobody reads would hold up the end (finding 4)."""
    equipment.keeper.release(found.id)
    equipment.backend.destroy(found.id)


def _waits_at_gate(equipment: Equipment, row: AttemptRow) -> bool:
    """True when the state says `running`, but the worker died before the gate was open: nothing ran.

    Also when the keeper has stopped the sandbox since: what it never got, it cannot have begun.
    """
    held = equipment.keeper.held().get(row.sandbox or "")
    return held is not None and not held.stdin_closed


def _give_back(equipment: Equipment, claim: Claim, why: str) -> None:
    product = equipment.product
    try:
        give_back(product, claim, product.settings.worker_name, why)
    except StaleClaim:
        log.info("attempt was taken over meanwhile", extra={"task": claim.task_id})
    except CancelRequested:
        conclude_cancelled(product, claim)


def restored(equipment: Equipment, task: Task, row: AttemptRow) -> Attempt:
    """An attempt as it was when the worker before us died, with its undo.

    Nothing of it is started here: what fails now is tried again, and would run twice.
    """
    attempt = Attempt(equipment, task, row.claim, state=task.state, commit=row.commit, sandbox=row.sandbox)
    if row.image and row.image_digest:
        # Its id is not stored: the sandbox is there, and nothing more is made of the image.
        attempt.image = Image(row.image, row.image_digest, row.image_digest)
    attempt.gate_open = True
    attempt.verdict = row.verdict or {}
    attempt.seen = row.agent
    if row.model_usage:
        attempt.meter.load(row.model_usage)
    attempt.uncollected = bool(attempt.verdict.get("uncollected"))
    attempt.undo.callback(attempt.discard_directory)
    attempt.undo.callback(destroy_sandbox, attempt)
    try:
        attempt.directory.restore()
    except OSError as error:  # it ends all the same, without what lies there
        log.error("the disk of an attempt is lost", extra={"task": task.id, "error": str(error)})  # noqa: TRY400
    attempt.running_since = time.monotonic() - (_ran(row) or 0.0)
    attempt.progress = Progress.load(row.spool_offset, row.output_bytes, row.dropped_bytes)
    attempt.progress.earlier_bytes = task.output_bytes - row.output_bytes
    attempt.progress.said.know(task.progress_percent, task.progress_text, task.outputs)
    count_on(attempt)
    return attempt


def _ran(row: AttemptRow) -> float | None:
    """For how many seconds the command had been running, by the host's boot clock; None: another boot began."""
    return boot_clock.elapsed(row.running_clock) if row.running_clock else None


def _stored_verdict(row: AttemptRow) -> Verdict | None:
    """Why the attempt was being ended, if it was; a command that ran in another boot of the host ended with it."""
    if row.verdict:
        return Verdict(row.verdict["kind"])
    return Verdict.REBOOTED if row.running_clock and _ran(row) is None else None


def restore_preserved(equipment: Equipment) -> None:
    """Mount the disks of preserved sandboxes again, which a boot of the host unmounted: they are kept to be seen."""
    settings = equipment.product.settings
    with equipment.product.database.read() as tx:
        preserved = attempt_rows.preserved_rows(tx, settings.worker_name)
    for row in preserved:
        try:
            AttemptDirectory.of(settings.work_dir, row.claim).restore()
        except OSError as error:
            log.warning("disk of a preserved sandbox not mounted", extra={"task": row.task_id, "error": str(error)})


def remove_orphans(equipment: Equipment, held: Callable[[], Collection[Claim]]) -> None:
    """Destroy sandboxes and directories of this worker that belong to no live and no preserved attempt. What the keeper
    holds of such an attempt it lets go, once the engine has no sandbox of that name.

    Nothing is touched of an attempt in `held()`, nor a directory that somebody has locked: both are being seen to.
    """
    settings = equipment.product.settings
    streams = equipment.keeper.held()
    sandboxes = equipment.backend.find()
    directories = list(settings.work_dir.iterdir()) if settings.work_dir.exists() else []
    with equipment.product.database.read() as tx:  # after the listing: what is newer than it is left alone
        keep = {row.claim for _, row in attempt_rows.live_on(tx, settings.worker_name)}
        keep |= attempt_rows.preserved_on(tx, settings.worker_name)
        keep |= {row.claim for _, row in attempt_rows.uncollected_on(tx, settings.worker_name)}
    keep |= set(held())  # after the read: an attempt that it shows as ended may be removing what it had
    for found in sandboxes:
        claim = claim_of(found.labels)
        if claim not in keep:
            log.info("orphan removed", extra={"sandbox": found.id, "claim": str(claim)})
            with _others_first():
                _destroy(equipment, found)
    names = {AttemptDirectory.of(settings.work_dir, claim).root.name for claim in keep}
    for sandbox, stream in streams.items():
        if stream.spool_dir.parent.name not in names:
            with _others_first():
                _let_go(equipment, sandbox)
    for directory in directories:
        if directory.name not in names:
            with _others_first():
                AttemptDirectory(directory).destroy(wait=False)


def _let_go(equipment: Equipment, sandbox: str) -> None:
    """Release what the keeper holds of a sandbox that is gone: the keeper's stop program removes one that was never
    started. One that is still there may be another installation's, and the keeper the last that would stop it."""
    try:
        equipment.backend.inspect(sandbox)
    except SandboxGone:
        equipment.keeper.release(sandbox)


@contextmanager
def _others_first() -> Iterator[None]:
    """What cannot be removed now is tried again at the next look around; nothing else has to wait for it."""
    try:
        yield
    except (SandboxError, KeeperRefused, OSError) as error:
        log.warning("orphan not removed yet", extra={"error": str(error)})


def destroy_expired(equipment: Equipment, at: datetime) -> None:
    """Destroy preserved sandboxes whose time is over at `at`, or whose task was purged; the state stays."""
    product = equipment.product
    with product.database.read() as tx:
        due = attempt_rows.preserved_due(tx, product.settings.worker_name, at)
    destroy_preserved(equipment, due)


def destroy_preserved(equipment: Equipment, rows: Iterable[AttemptRow]) -> None:
    """Destroy these preserved sandboxes. One that cannot be destroyed now is due again next time."""
    product = equipment.product
    for row in rows:
        try:
            if row.sandbox:
                equipment.backend.destroy(row.sandbox)
            AttemptDirectory.of(product.settings.work_dir, row.claim).destroy()
            with product.database.write() as tx:
                attempt_rows.release_preserved(tx, row.task_id)
        except (SandboxError, OSError) as error:  # the others must not wait for this one
            log.warning("preserved sandbox not destroyed yet", extra={"task": row.task_id, "error": str(error)})
            continue
        log.info("preserved sandbox destroyed", extra={"task": row.task_id})
