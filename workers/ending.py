"""The second half of the recipe, the same for every ending: stop, drain, collect, destroy, conclude."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from orchestrator.artifacts import ArtifactStoreUnavailable
from orchestrator.contacts import fix
from orchestrator.fault_points import reach
from orchestrator.journal import StaleClaim
from orchestrator.models import Task
from orchestrator.outcomes import LOST_HINT, Outcome, Reason, failure, stopped
from orchestrator.quantities import size_text
from orchestrator.services.cancel import conclude_cancelled, confirmed
from orchestrator.services.conclude import CancelRequested, conclude
from orchestrator.services.purge import storage_prefix
from orchestrator.states import RAN, Event, State
from orchestrator.store import artifacts as artifact_rows
from orchestrator.store import tasks
from workers import disk_outcomes
from workers.agent_output import last_lines
from workers.attempt import Attempt
from workers.collect import Collection, CollectLimits, Collector
from workers.custody import shut_output
from workers.git import PatchFailed, make_patch
from workers.helper import HelperStopped
from workers.holding import stopped_by_keeper
from workers.patience import patiently
from workers.records import artifact_stored, gap
from workers.room import no_room, wait_for_room
from workers.sandbox.labels import ROLE, ROLE_GIT, SERVES, claim_of
from workers.sandbox.port import EngineUnavailable, Inspection, SandboxError, SandboxGone
from workers.session import SESSION_FAULTS, keep_session, wants_keeping
from workers.supervisor import Verdict
from workers.tree import Refused
from workers.way_out import close_way_out
from workers.workspace import sandbox_user_id

log = logging.getLogger(__name__)

KILL_WAIT_SECONDS = 10.0
EOF_WAIT_SECONDS = 5.0
LAST_LINES_SECONDS = 0.2
STORE_TRIES = 5
ENDED_BY_SIGNAL = (128 + 9, 128 + 15)
REMOVAL_SECONDS = 0.5
ENGINE_RETRY_SECONDS = 1.0
LOOK_OPTIONS = (
    "--network none --cap-drop ALL --security-opt no-new-privileges --read-only --pids-limit 256 --memory 1g --cpus 1"
)


def finish(attempt: Attempt, verdict: Verdict, outcome: Outcome | None) -> None:
    """Bring the attempt to its end. `outcome` is given when a step failed; else the command's end decides.

    Raises `StaleClaim`: another one writes about this attempt now.
    """
    if verdict is Verdict.STALE:
        raise StaleClaim(attempt.claim)
    if "outcome" not in attempt.verdict:
        outcome = _wind_up(attempt, verdict, outcome)
    else:  # a worker before us came so far
        outcome = Outcome.from_dict(attempt.verdict["outcome"])
        attempt.undo.close()
    reach("before_conclude")
    _conclude(attempt, outcome)
    reach("concluded")


def _wind_up(attempt: Attempt, verdict: Verdict, outcome: Outcome | None) -> Outcome:
    """Stop, drain, collect, and destroy if that must come before the end is told; return how it ended."""
    ran = attempt.state in RAN
    if verdict is Verdict.EXITED and attempt.pump is not None:
        attempt.pump.wait_end(LAST_LINES_SECONDS)  # so that the log reads in the order of things
    if attempt.state is State.RUNNING:
        attempt.verdict = {"kind": verdict.value}
        attempt.disk_gauge.glance()
        attempt.advance(Event.ENDED, _ENDING_WORDS[verdict], verdict=attempt.verdict, **attempt.used)
    reach("ended")
    exit_code, oom_killed, broken = _stop(attempt, verdict)
    reach("sandbox_stopped")
    close_way_out(attempt)
    if ran:
        if verdict is not Verdict.EXITED:
            _remember(attempt, attempt.used, stopped=True)
        drain(attempt)  # before the judgement: an agent's last words are a part of its end
        reach("output_drained")
    outcome = outcome or broken or _judge(attempt, verdict, exit_code, oom_killed=oom_killed)
    if ran:
        outcome = _collect(attempt, outcome)
        reach("artifacts_stored")
        _keep_session(attempt, outcome)
    if _must_be_gone_first(attempt, outcome, exit_code):
        if ran:  # with the sandbox goes its exit code: a worker that has to go on from here must know it
            _remember(attempt, outcome=attempt.redacted(outcome).to_dict(), uncollected=attempt.uncollected)
        attempt.undo.close()
    return outcome


def _remember(attempt: Attempt, columns: Mapping[str, Any] | None = None, **facts: Any) -> None:
    attempt.verdict = attempt.verdict | facts
    attempt.note(verdict=attempt.verdict, **columns or {})


def _must_be_gone_first(attempt: Attempt, outcome: Outcome, exit_code: int | None) -> bool:
    """An ended sandbox may be removed after the task's end; not when its end is in doubt, cancelled or retried."""
    retry = attempt.manifest.lifecycle.retry
    retried = retry.max_attempts > 1 and outcome.reason.value in retry.on
    return outcome.reason is Reason.CANCELLED or exit_code is None or (retried and not _wants_preserving(attempt))


_ENDING_WORDS = {
    Verdict.EXITED: "the command ended; its output is being stored",
    Verdict.CANCELLED: "the command is being stopped: cancelled",
    Verdict.TIMEOUT: "the command is being stopped: its timeout is over",
    Verdict.IDLE: "the command is being stopped: it printed nothing for idle_timeout",
    Verdict.STOPPING: "the command is being stopped: its worker ends, or is drained and the deadline is over",
    Verdict.INPUT: "the command is being stopped: nobody answered it within lifecycle.input_timeout",
    Verdict.DISK: "the command is being stopped: it wrote more than vm.disk",
    Verdict.REBOOTED: "the command ended with its host; its output is being stored",
    Verdict.STALE: "",
}


def _stop(attempt: Attempt, verdict: Verdict) -> tuple[int | None, bool, Outcome | None]:
    """Signal → grace → kill → verified ended. Return exit code, OOM, and the outcome if the sandbox broke."""
    sandbox, backend = attempt.sandbox, attempt.equipment.backend
    if sandbox is None:
        return None, False, None
    while True:
        try:
            if verdict is not Verdict.EXITED and backend.inspect(sandbox).running:
                _terminate(attempt, sandbox)
            found = _wait_ended(attempt, sandbox)
            broken = _broken(attempt, sandbox, found) if verdict is Verdict.EXITED else None
            return found.exit_code, found.oom_killed, broken
        except SandboxGone:
            message = "the sandbox was removed from outside while the task ran"
            hint = "find out who removes containers on this worker's host"
            return None, False, failure(Reason.SANDBOX_ERROR, message, hint=hint)
        except EngineUnavailable as error:  # without its answer nothing can be said of the task: wait for it
            attempt.equipment.outages.note()
            log.warning("engine away, ending later", extra={"task": attempt.claim.task_id, "error": str(error)})
            time.sleep(ENGINE_RETRY_SECONDS)
        except SandboxError as error:
            return None, False, failure(Reason.SANDBOX_ERROR, str(error), hint="see `sandbox doctor`")


def _broken(attempt: Attempt, sandbox: str, found: Inspection) -> Outcome | None:
    """An end that is none of the command's own. Called only where this worker did not end it. Raises `SandboxGone`."""
    signalled = found.exit_code in ENDED_BY_SIGNAL and not found.oom_killed
    if signalled and stopped_by_keeper(attempt):
        message = "the keeper stopped the sandbox: its worker could not renew its lease"
        return failure(Reason.WORKER_LOST, message, hint=LOST_HINT)
    killed = signalled and not _went_with_the_engine(attempt) and _killed_from_outside(attempt, sandbox)
    # Asked again after that look, which takes a moment: an engine that is stopped tells of its sandboxes' ends before
    # anybody sees it go, and the one that is started after it knows of no kill.
    if _went_with_the_engine(attempt):
        message = "the engine of this worker was restarted while the task ran, and took the sandbox with it"
        hint = "turn on live-restore in the engine's daemon.json, so that its restart leaves sandboxes alone"
        return failure(Reason.SANDBOX_ERROR, message, hint=hint)
    if killed:
        message = "the sandbox was killed from outside (`docker kill` or `docker stop`) while the task ran"
        return failure(Reason.SANDBOX_ERROR, message, hint="find out who stops containers on this worker's host")
    return None


def _went_with_the_engine(attempt: Attempt) -> bool:
    equipment = attempt.equipment
    # A second before the event, because an engine that is stopped tells of its sandboxes' ends on its way out; but an
    # outage from before the command ran has nothing to do with its end.
    since = max(attempt.signals.certain_until - 1.0, attempt.running_since or 0.0)
    return equipment.outages.since(since) and not equipment.backend.survives_restart()


def _killed_from_outside(attempt: Attempt, sandbox: str) -> bool:
    """A signal that neither the command nor the kernel's memory killer explains. Raises `SandboxGone`."""
    time.sleep(REMOVAL_SECONDS)  # `docker rm --force` kills first: is it being removed?
    attempt.equipment.backend.inspect(sandbox)
    return attempt.equipment.backend.killed_from_outside(sandbox)


def _wait_ended(attempt: Attempt, sandbox: str) -> Inspection:
    """The event may be a moment ahead of the engine's own inspection."""
    deadline = time.monotonic() + KILL_WAIT_SECONDS
    while (found := attempt.equipment.backend.inspect(sandbox)).running and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def _terminate(attempt: Attempt, sandbox: str) -> None:
    backend, signals = attempt.equipment.backend, attempt.signals
    if not signals.force:
        backend.kill(sandbox, "TERM")
        if signals.wait_exit(attempt.manifest.lifecycle.stop_grace_seconds, until_forced=True):
            return
    backend.kill(sandbox, "KILL")
    if not signals.wait_exit(2.0):
        shut_output(attempt)
        signals.wait_exit(KILL_WAIT_SECONDS)


_LOSSES = {
    Verdict.STOPPING: "the worker was stopped, or its drain's deadline passed, while it had this task",
    Verdict.REBOOTED: "the worker's host was booted again while the task ran",
}


def _judge(attempt: Attempt, verdict: Verdict, exit_code: int | None, *, oom_killed: bool) -> Outcome:
    if verdict is Verdict.CANCELLED:
        return confirmed(_as_stored(attempt), exit_code)
    if verdict in _LOSSES:
        return failure(Reason.WORKER_LOST, _LOSSES[verdict], hint=LOST_HINT)
    if verdict is not Verdict.EXITED:
        return _over_limit(attempt, verdict, exit_code)
    if exit_code is None:
        return failure(
            Reason.SANDBOX_ERROR,
            "the sandbox did not end although it was killed",
            hint="see the engine's log",
        )
    if oom_killed and exit_code == 0:  # a child's death is the command's to judge, and it did
        memory = attempt.manifest.definition["vm"]["memory"]
        attempt.say(f"the kernel killed a process of the command: vm.memory ({memory}) was used up")
    seen = attempt.pump.seen if attempt.pump else attempt.seen
    outcome = attempt.agent.outcome(attempt.manifest, exit_code, oom_killed=oom_killed, seen=seen)
    if seen is not None and outcome.reason is Reason.AGENT_ERROR and not _heard_all(attempt):
        message = "how the agent ended is not known: not all of its output could be read"
        hint = "the log says where something is missing; run the task again"
        return failure(Reason.SANDBOX_ERROR, message, hint=hint)
    outcome = _of_disk(attempt, outcome)
    line = _denials(attempt, outcome)
    return replace(outcome, hint=f"{line}; {outcome.hint}") if line else outcome


def _heard_all(attempt: Attempt) -> bool:
    """False when an agent's last words may be among what was not read, or may not be shown."""
    return attempt.withheld is None and attempt.pump is not None and attempt.pump.complete


def _over_limit(attempt: Attempt, verdict: Verdict, exit_code: int | None) -> Outcome:
    """The worker stopped the command: it ran for too long, was silent for too long, or wrote too much."""
    lifecycle = attempt.manifest.lifecycle
    if verdict is Verdict.DISK:
        return disk_outcomes.of_watch(attempt.disk_gauge.limit_bytes, exit_code)
    if verdict is Verdict.TIMEOUT:
        message = f"the command ran longer than lifecycle.timeout ({lifecycle.timeout_seconds} s)"
        return stopped(Reason.TIMEOUT, message, exit_code, hint="raise lifecycle.timeout, or do less in one task")
    if verdict is Verdict.INPUT:
        message = f"nobody answered the agent within {lifecycle.input_timeout_seconds} s (lifecycle.input_timeout)"
        hint = "answer with `sandbox task send ID --answer …`, or raise lifecycle.input_timeout"
        return stopped(Reason.INPUT_TIMEOUT, message, exit_code, hint=hint)
    message = f"the command printed nothing for {lifecycle.idle_timeout_seconds} s (lifecycle.idle_timeout)"
    return stopped(Reason.IDLE_TIMEOUT, message, exit_code, hint="raise lifecycle.idle_timeout, or print more")


def _of_disk(attempt: Attempt, outcome: Outcome) -> Outcome:
    """A failure may be that of a full disk; a success stays one."""
    if outcome.reason is not Reason.EXIT_NONZERO:
        return outcome
    gauge = attempt.disk_gauge
    before = gauge.peak_bytes
    gauge.look_at_end()
    if gauge.peak_bytes > before:
        attempt.note(**attempt.used)
    if gauge.at_least:
        seen = f"at least {size_text(gauge.peak_bytes)} of vm.disk ({size_text(gauge.limit_bytes)}) was in use"
        attempt.say(f"{seen}: there are more files than could be looked at when the command had ended")
    return disk_outcomes.of_failure(outcome, gauge.limit_bytes, full=gauge.full, broken=gauge.broken)


def _denials(attempt: Attempt, outcome: Outcome) -> str | None:
    """What was refused to a command that failed, and how to let it through: perhaps that is why."""
    return fix(attempt.traffic.denied()) if outcome.reason is Reason.EXIT_NONZERO else None


def _as_stored(attempt: Attempt) -> Task:
    def read() -> Task:
        with attempt.equipment.product.database.read() as tx:
            return tasks.get(tx, attempt.claim.task_id) or attempt.task

    return patiently(read)


def drain(attempt: Attempt) -> None:
    """Wait until all that the command printed is in the journal."""
    pump = attempt.pump
    if pump is None or attempt.sandbox is None or pump.wait_end(EOF_WAIT_SECONDS):
        return
    deadline = time.monotonic() + attempt.manifest.lifecycle.collect_timeout_seconds
    while time.monotonic() < deadline:
        shut_output(attempt, only_if_idle=True)  # the command has ended, yet somebody holds the stream open
        if pump.wait_end(1.0):
            return
    pump.abandon()
    attempt.equipment.writer.write(attempt.claim, [gap("the end of the log could not be stored in collect_timeout")])


def forget_spool(attempt: Attempt) -> None:
    """What was printed is stored, all of it: it must not lie here with its secrets while the artifacts wait."""
    if attempt.pump is None or not attempt.pump.complete:
        return
    try:
        attempt.directory.discard_spool()
    except OSError as error:
        log.warning("spool not removed yet", extra={"task": attempt.claim.task_id, "error": str(error)})


def _collect(attempt: Attempt, outcome: Outcome) -> Outcome:
    """Store the artifacts; a user's failure stays what it is even when that does not work."""
    if attempt.verdict.get("collected") or not leaves_anything(attempt):
        return outcome
    trouble = attempt.verdict.get("dropped") or wait_for_room(attempt)
    if trouble:
        return _dropped(attempt, outcome, trouble)
    deadline = time.monotonic() + attempt.manifest.lifecycle.collect_timeout_seconds
    attempt.phase_deadline = deadline
    if not attempt.directory.workspace.is_dir():  # the store was restored to a time before this attempt's end
        attempt.say("the workspace is gone: there is nothing to collect")
        return _without_artifacts(outcome, "the workspace is gone", "see the worker's log")
    for number in range(1, STORE_TRIES + 1):
        try:
            attempt.verdict = attempt.verdict | {"collected": True}
            store_artifacts(attempt, gather(attempt, deadline), verdict=attempt.verdict)
            return outcome
        except (ArtifactStoreUnavailable, OSError) as error:
            why = str(error)
            attempt.say(f"artifacts could not be stored ({why}); try {number} of {STORE_TRIES}")
            if time.monotonic() + 2**number > deadline:
                break
            time.sleep(2 ** (number - 1))
    attempt.verdict.pop("collected")
    trouble = no_room(attempt.equipment.product.settings) if attempt.interrupted() else None
    if trouble:  # the wait for room was cut short
        return _dropped(attempt, outcome, trouble)
    attempt.uncollected = True
    forget_spool(attempt)
    attempt.say("the artifacts stay on the worker's host, which goes on trying to store them")
    hint = f"worker {attempt.equipment.product.settings.worker_name} keeps them and tries again; see `sandbox doctor`"
    return _without_artifacts(outcome, why, hint)


def _dropped(attempt: Attempt, outcome: Outcome, trouble: str) -> Outcome:
    """Kept, the artifacts would hold the task's disk, and perhaps that is what fills the host."""
    _remember(attempt, dropped=trouble)  # the next worker does not wait again
    attempt.say(f"the artifacts are dropped for want of space: {trouble}")
    hint = f"free space on the host of worker {attempt.equipment.product.settings.worker_name}, and run the task again"
    return _without_artifacts(outcome, f"they were dropped for want of space: {trouble}", hint)


def _without_artifacts(outcome: Outcome, why: str, hint: str) -> Outcome:
    """A failure stays what it is; a success without its artifacts is none."""
    if outcome.reason is not Reason.EXIT_ZERO:
        return outcome
    return failure(Reason.ARTIFACT_ERROR, f"the artifacts could not be stored: {why}", hint=hint)


def _keep_session(attempt: Attempt, outcome: Outcome) -> None:
    """What can be kept of an agent's session is; that it cannot changes nothing in how the task ended."""
    if "session" in attempt.verdict or not wants_keeping(attempt, outcome):
        return
    deadline = time.monotonic() + attempt.manifest.lifecycle.collect_timeout_seconds
    for number in range(1, STORE_TRIES + 1):
        try:
            kept = keep_session(attempt, deadline)
            break
        except SESSION_FAULTS as error:
            passes = isinstance(error, ArtifactStoreUnavailable) and time.monotonic() + 2**number < deadline
            if number == STORE_TRIES or not passes:
                attempt.say(f"the session could not be kept, so the task cannot be resumed: {error}")
                return
            time.sleep(2 ** (number - 1))
    if kept is not None:
        attempt.verdict = attempt.verdict | {"session": True}
        attempt.note(session=kept, verdict=attempt.verdict)


def leaves_anything(attempt: Attempt) -> bool:
    """Tell whether there is anything to collect: what the manifest names, a patch, or what an agent said."""
    asked = bool(attempt.manifest.lifecycle.artifact_patterns) or attempt.commit is not None
    return asked or attempt.directory.agent_stream.exists()


def gather(attempt: Attempt, deadline: float) -> Collection:
    settings, claim = attempt.equipment.product.settings, attempt.claim
    limits = CollectLimits(settings.artifact_max_count, settings.artifact_max_bytes, deadline)
    store, prefix = attempt.equipment.product.artifacts, storage_prefix(claim.task_id)
    collector = Collector(store, claim, prefix, limits, attempt.redactor.redact)
    attempt.directory.unlock()
    if attempt.commit is not None and not attempt.verdict.get("patch_failed"):
        _add_patch(attempt, collector, attempt.commit)
    _add_words(attempt, collector)
    collector.collect(attempt.directory.workspace, attempt.manifest.lifecycle.artifact_patterns)
    return collector.collection


def _add_patch(attempt: Attempt, collector: Collector, commit: str) -> None:
    """A patch that could not be made is not tried again: the task's own filters run in it."""
    try:
        _destroy_helpers(attempt)
        patch = make_patch(attempt.git(ignore_signals=True), attempt.directory, commit)
        if patch is not None:
            collector.add_file(patch, f"{attempt.claim.task_id}.patch")
    except PatchFailed as error:
        why = str(error)
    except (HelperStopped, SandboxError, EngineUnavailable, Refused, OSError) as error:
        why = f"no patch could be made: {error}"
    else:
        return
    attempt.verdict = attempt.verdict | {"patch_failed": True}
    known = {name: fact for name, fact in attempt.verdict.items() if name != "collected"}
    attempt.equipment.writer.write(attempt.claim, [attempt.words(why)], verdict=known)


def _add_words(attempt: Attempt, collector: Collector) -> None:
    """What an agent said: its final answer, and all of it as it came. Raises `OSError`."""
    directory, task = attempt.directory, attempt.claim.task_id
    is_whole = attempt.pump is not None and attempt.pump.stream_is_whole  # else it would be an earlier answer
    answer = attempt.agent.answer(last_lines(directory.agent_stream)) if is_whole else None
    if answer is not None:
        directory.agent_answer.write_text(answer, encoding="utf-8")
        collector.add_file(directory.agent_answer, f"{task}.result.md")
    if directory.agent_stream.exists():
        collector.add_file(directory.agent_stream, f"{task}.{attempt.agent.name}-stream.jsonl")


def _destroy_helpers(attempt: Attempt) -> None:
    """Git of a worker that was killed while it made the patch still writes to the same place."""
    backend = attempt.equipment.backend
    mine = [one for one in backend.find() if claim_of(one.labels) == attempt.claim]
    helpers = {one.id for one in mine if one.labels.get(ROLE) == ROLE_GIT}
    for one in mine:
        if one.id in helpers or one.labels.get(SERVES) in helpers:
            backend.destroy(one.id)


def store_artifacts(attempt: Attempt, found: Collection, **facts: Any) -> None:
    """List the artifacts, say so in the journal and note `facts`: all of it or, when a worker dies here, nothing."""
    records = [attempt.words(line) for line in found.report()] + [artifact_stored(one) for one in found.stored]

    def write(tx: sa.Connection) -> None:
        artifact_rows.replace_all(tx, attempt.claim.task_id, attempt.claim.attempt, found.stored)

    attempt.equipment.writer.write(attempt.claim, records, beside=write, **facts)


def _conclude(attempt: Attempt, outcome: Outcome) -> None:
    product, claim, outcome = attempt.equipment.product, attempt.claim, attempt.redacted(outcome)
    hint = _preserve_hint(attempt, outcome)
    left = attempt.uncollected
    if hint is not None and not _forgot_output(attempt):
        hint = None
    try:
        state = patiently(lambda: conclude(product, claim, outcome, preserve_hint=hint, uncollected=left))
    except CancelRequested:
        attempt.undo.close()
        patiently(lambda: conclude_cancelled(product, claim, outcome.exit_code, uncollected=left))
        return
    if state is State.FAILED_PRESERVED and attempt.sandbox:
        attempt.undo.pop_all()
        attempt.equipment.keeper.release(attempt.sandbox)


def _forgot_output(attempt: Attempt) -> bool:
    """Remove what a sandbox that is to be preserved has printed: it is stored, and there without its secrets."""
    try:
        attempt.directory.discard_output()
    except OSError as error:
        why = {"task": attempt.claim.task_id, "error": str(error)}
        log.warning("sandbox not preserved: what it has printed cannot be removed from the disk", extra=why)
        return False
    return True


def give_up(attempt: Attempt, error: Exception) -> None:
    """End an attempt that this worker could not bring to a proper end: a fact, not a hanging task."""
    message = f"the worker failed: {type(error).__name__}: {error}"
    try:
        attempt.undo.close()
    finally:
        _conclude(attempt, failure(Reason.INTERNAL_ERROR, message, hint="see the worker's log and report it"))


def _wants_preserving(attempt: Attempt) -> bool:
    return attempt.manifest.lifecycle.failure_action == "preserve"


def _preserve_hint(attempt: Attempt, outcome: Outcome) -> str | None:
    """How to look inside, if the sandbox is to be kept; None when not."""
    wanted = _wants_preserving(attempt) and outcome.reason not in (Reason.EXIT_ZERO, Reason.CANCELLED)
    if not wanted or attempt.sandbox is None or attempt.image is None:
        return None
    if attempt.state not in RAN:
        return None
    workspace = shlex.quote(f"{attempt.directory.workspace}:/workspace")
    # Our own image and not as root: the task wrote the files, and most often chose its own image.
    image, user = shlex.quote(attempt.equipment.git_image), f"{sandbox_user_id()}:{sandbox_user_id()}"
    look = f"docker run --rm -it {LOOK_OPTIONS} --user {user} -v {workspace} -w /workspace {image} sh"
    copy = f"docker cp {attempt.sandbox[:12]}:/workspace ./{attempt.claim.task_id}"
    worker = attempt.equipment.product.settings.worker_name
    inside = f"on worker {worker}: look inside with `{look}`; copy files out with `{copy}`"
    line = _denials(attempt, outcome)
    return f"{line}; {inside}" if line else inside
