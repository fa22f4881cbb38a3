"""One attempt is a recipe. Read it here: `STEPS`, then `finish`.

Each step registers its undo before it acts. A step ends the recipe early by raising `StepFailed` (it could
not be done), `Stopped` (somebody asked the attempt to end) or `StaleClaim` (the attempt is not ours any more).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from orchestrator.fault_points import reach
from orchestrator.journal import StaleClaim
from orchestrator.manifest import ManifestPolicy, Repository
from orchestrator.outcomes import Fault, Outcome, Reason, failure
from orchestrator.states import BEFORE_RUNNING, Event, State
from orchestrator.store.database import StoreUnavailable
from workers import boot_clock, cgroup_limits
from workers.agent_probe import check_agent
from workers.agents.port import Places
from workers.allowed_here import check_profile
from workers.applied import applied_limits
from workers.attempt import Attempt, PhaseOver, StepFailed, Stopped
from workers.custody import destroy_sandbox, has_ended, hold_output, printed_since, sandbox_of, start_pump
from workers.dialogue import look_patiently, start_dialogue
from workers.egress import EgressUnavailable
from workers.ending import finish, give_up
from workers.git import CloneFailed, clone
from workers.helper import HelperStopped
from workers.holding import stopped_by_keeper
from workers.keeper_client import KeeperRefused, KeeperUnavailable
from workers.model_api.access import ModelKeyUnavailable
from workers.network.full import FullNetworkUnavailable
from workers.salvage import leave_behind
from workers.sandbox.launcher import gate_script
from workers.sandbox.port import EngineUnavailable, ImageUnavailable, SandboxError
from workers.secret_custody import guard, recall
from workers.secrets.resolver import SecretUnavailable, resolve, sources_of
from workers.session import restore_session
from workers.supervisor import Limits, Verdict
from workers.way_out import open_way_out, proxy_environment, reopen_way_out
from workers.workspace import INBOX_TARGET, INPUT_NAME, PRIVATE_TARGET, WORKSPACE_TARGET

log = logging.getLogger(__name__)

Step = Callable[[Attempt], None]

KEEPER_RETRY_SECONDS = 1.0


def resolve_secrets(attempt: Attempt) -> None:
    """Fetch the values that the manifest refers to, before anything is done or said that could hold one."""
    attempt.within(attempt.manifest.lifecycle.stage_timeout_seconds)
    settings = attempt.equipment.product.settings
    attempt.secrets = resolve(attempt.manifest.secrets, sources_of(settings), settings.worker_name, attempt.pause)
    guard(attempt)
    _check_model_access(attempt)


def _check_model_access(attempt: Attempt) -> None:
    """An agent without its model would hang for minutes before it says so."""
    if not attempt.agent.needs_model:
        return
    try:
        attempt.equipment.model_access()
    except ModelKeyUnavailable as error:
        raise StepFailed(
            failure(Reason.SECRET_UNAVAILABLE, str(error), hint=error.hint, fault=Fault.PLATFORM)
        ) from None


def make_workspace(attempt: Attempt) -> None:
    """Directories, clone (or what an earlier task left), script."""
    attempt.undo.callback(attempt.discard_directory)
    reach("claimed")
    check_profile(attempt)
    attempt.directory.create()
    repository = attempt.manifest.repository
    if attempt.task.resumed_from is not None:
        restore_session(attempt)
        attempt.note(commit=attempt.commit)
    elif repository is not None:
        _check_allowed_here(attempt, repository)
        attempt.commit = clone(attempt.git(), repository, attempt.directory, attempt.say, attempt.credentials)
        attempt.note(commit=attempt.commit)
    script = attempt.agent.script(attempt.manifest)
    if script is not None:
        attempt.directory.put_script(script)
    attempt.advance(Event.WORKSPACE_MADE, "the workspace is made; the sandbox is being created")
    reach("workspace_made")


def _check_allowed_here(attempt: Attempt, repository: Repository) -> None:
    """The API judged `file://` by its own settings; this host's count too."""
    allowed = ManifestPolicy(None, None, attempt.equipment.product.settings.file_repositories)
    path = repository.url.removeprefix("file://")
    if repository.url != path and not allowed.file_repository_allowed(path):
        message = f"{repository.url} may not be read on this worker"
        hint = "name its directory in SANDBOX_FILE_REPOSITORIES of the worker"
        raise StepFailed(failure(Reason.CLONE_FAILED, message, hint=hint, fault=Fault.USER))


def create_sandbox(attempt: Attempt) -> None:
    """Image, container, output stream; started with its gate closed."""
    attempt.within(attempt.manifest.lifecycle.provision_timeout_seconds)
    backend = attempt.equipment.backend

    def interrupted() -> bool:
        return attempt.interrupted() or time.monotonic() > attempt.phase_deadline

    attempt.image = backend.pull(attempt.image_name, interrupted=interrupted, say=attempt.say)
    reach("image_ready")
    attempt.check()
    check_agent(attempt)
    sandbox = backend.create(attempt.spec())
    attempt.undo.callback(destroy_sandbox, attempt)
    attempt.sandbox = sandbox
    reach("sandbox_created")
    _refuse_faults(backend.inspect(sandbox, attempt.spec()).mismatches)  # its `sh`, from the start on, is the image's
    hold_output(attempt)
    start_pump(attempt, attempt.progress)
    reach("output_held")
    attempt.check()
    if attempt.manifest.vm.network_mode == "full":
        attempt.equipment.full_network.check()
    attempt.await_lease()
    reach("start_due")
    backend.start(sandbox)  # should this process have slept before, the keeper has removed it
    reach("sandbox_started")
    attempt.check()


def _refuse_faults(faults: Sequence[str]) -> None:
    if faults:
        raise StepFailed(failure(Reason.SANDBOX_ERROR, f"the engine did not apply: {'; '.join(faults)}"))


def verify_sandbox(attempt: Attempt) -> None:
    """Compare what is in force with what was asked for, before the gate opens."""
    backend, spec = attempt.equipment.backend, attempt.spec()
    found = backend.inspect(sandbox_of(attempt), spec)
    _refuse_faults([*found.mismatches, *cgroup_limits.faults(found.process_id, sandbox_of(attempt), spec)])
    if not found.running:
        hint = "the image must hold /bin/sh: the gate of the sandbox is a shell script"
        message = f"the sandbox of image {attempt.image_name} ended before its gate (exit code {found.exit_code})"
        raise StepFailed(failure(Reason.SANDBOX_ERROR, message, hint=hint))
    attempt.runtime = found.runtime


def be_ready(attempt: Attempt) -> None:
    """Say what is in force: limits are verified, and the way out, if there is one, is open."""
    attempt.advance(
        Event.SANDBOX_VERIFIED,
        "the sandbox is verified; the command waits at its gate",
        applied=applied_limits(attempt),
        sandbox=attempt.sandbox,
        image=attempt.image.name if attempt.image else None,
        image_digest=attempt.image.digest if attempt.image else None,
    )
    reach("sandbox_verified")


def open_gate(attempt: Attempt) -> None:
    """Let the command go. From here on it may have effects, so the state says `running` first."""
    manifest, repository = attempt.manifest, attempt.manifest.repository
    places = Places(attempt.directory.script_path(), PRIVATE_TARGET, f"{INBOX_TARGET}/{INPUT_NAME}")
    launch = attempt.agent.launch(manifest, places, attempt.command_secrets, attempt.session_id, attempt.resumed)
    environment = {**launch.environment, **attempt.command_secrets, **proxy_environment(manifest)}
    cwd = WORKSPACE_TARGET + (f"/{repository.subpath}" if repository and repository.subpath else "")
    attempt.advance(Event.GATE_OPENED, "the command runs", running_clock=boot_clock.now())
    attempt.signals.seen_running()
    attempt.running_since = time.monotonic()
    attempt.phase_deadline = float("inf")
    reach("gate_announced")
    attempt.check()
    attempt.gate_open = True
    attempt.equipment.keeper.write(
        sandbox_of(attempt),
        gate_script(
            launch.command,
            environment,
            cwd,
            attempt.directory.log_marker(),
            files=launch.files,
            stdin=launch.stdin or "/dev/null",
            inbox=places.inbox if launch.feeds_inbox else None,
        ),
        half_close=True,
    )
    reach("gate_opened")
    start_dialogue(attempt)


def take_up(attempt: Attempt) -> None:
    """Go on with the output, and the way out, of a command that a worker before us left running.

    Here and not in the adoption: a source of secrets that is away would hold up every attempt after this one.
    """
    try:
        _recall_patiently(attempt)
    finally:
        start_pump(attempt, attempt.progress)
    if attempt.state is State.RUNNING:
        reopen_way_out(attempt)
        start_dialogue(attempt)


def _recall_patiently(attempt: Attempt) -> None:
    while True:
        try:
            return recall(attempt, attempt.pause)
        except KeeperUnavailable as error:
            log.warning("output waits", extra={"task": attempt.claim.task_id, "error": str(error)})
            attempt.pause(KEEPER_RETRY_SECONDS)


def supervise(attempt: Attempt) -> None:
    """Wait for the first ending."""
    lifecycle = attempt.manifest.lifecycle
    limits = Limits(
        attempt.running_since or time.monotonic(),
        lifecycle.timeout_seconds,
        lifecycle.idle_timeout_seconds,
        lifecycle.input_timeout_seconds,
        lifecycle.pause_clock_on_input,
    )
    while (verdict := attempt.signals.supervise(limits)) in (Verdict.IDLE, Verdict.INPUT):
        if verdict is Verdict.INPUT:
            look_patiently(attempt)  # an answer may have come a moment ago
            if attempt.signals.waits_for_input():
                break
        elif printed_since(attempt):
            attempt.signals.active()  # it did print; only the journal does not take it at the moment
        else:
            break
    if verdict in (Verdict.IDLE, Verdict.TIMEOUT, Verdict.INPUT) and has_ended(attempt):  # and its end was not told
        verdict = Verdict.EXITED
    raise Stopped(verdict)


STEPS: tuple[Step, ...] = (
    resolve_secrets,
    make_workspace,
    create_sandbox,
    verify_sandbox,
    open_way_out,
    be_ready,
    open_gate,
    supervise,
)
FROM_RUNNING: tuple[Step, ...] = (take_up, supervise)


def run(attempt: Attempt, steps: tuple[Step, ...] = STEPS) -> None:
    """Work through the recipe to the attempt's end. Never raises: an attempt always ends with a fact."""
    try:
        with attempt.undo:
            try:
                _to_its_end(attempt, steps)
            except StaleClaim as error:
                log.warning("attempt abandoned", extra={"task": attempt.claim.task_id, "why": str(error)})
                attempt.undo.pop_all()
                if attempt.way_out is not None:
                    attempt.way_out.close()
                if attempt.dialogue is not None:
                    attempt.dialogue.stop()
                leave_behind(attempt)
    except (EngineUnavailable, StoreUnavailable) as error:  # the worker's next look around goes on with it
        log.warning("attempt left behind", extra={"task": attempt.claim.task_id, "error": str(error)})
    except Exception:
        log.exception("attempt could not be cleaned up", extra={"task": attempt.claim.task_id})


_PARTS = ((EngineUnavailable, "engine"), (KeeperUnavailable, "keeper"), (FullNetworkUnavailable, "full network"))


def _to_its_end(attempt: Attempt, steps: tuple[Step, ...]) -> None:
    try:
        verdict, outcome = _work(attempt, steps)
        if verdict is Verdict.STOPPING and not attempt.gate_open:
            attempt.give_back("the worker was stopped before the task ran")
        elif verdict is Verdict.EXITED and not attempt.gate_open and stopped_by_keeper(attempt):
            attempt.give_back("the worker could not renew its lease before the task ran")
        else:
            finish(attempt, verdict, outcome)
    except (EngineUnavailable, KeeperUnavailable, FullNetworkUnavailable) as error:
        if attempt.state not in BEFORE_RUNNING:
            log.exception("attempt broke off", extra={"task": attempt.claim.task_id})
            return give_up(attempt, error)
        part = next(name for kind, name in _PARTS if isinstance(error, kind))
        log.warning("attempt given back", extra={"task": attempt.claim.task_id, "part": part, "error": str(error)})
        attempt.give_back(f"the {part} went away: {error}", trouble=str(error))
    except StaleClaim:
        raise
    except Exception as error:
        log.exception("attempt broke off", extra={"task": attempt.claim.task_id})
        give_up(attempt, error)


def resume_ending(attempt: Attempt, verdict: Verdict) -> None:
    """Go on with an attempt that was being ended when its worker died. Never raises."""
    run(attempt, (lambda one: _go_on_ending(one, verdict),))


def _go_on_ending(attempt: Attempt, verdict: Verdict) -> None:
    with suppress(Stopped):  # it is being ended, for the reason that is stored
        take_up(attempt)
    raise Stopped(verdict)


def _work(attempt: Attempt, steps: tuple[Step, ...]) -> tuple[Verdict, Outcome | None]:
    """Run the steps; return why they ended, and the outcome when a step failed."""
    outcome = None
    try:
        for step in steps:
            step(attempt)
    except Stopped as stopped:
        return stopped.verdict, None
    except (HelperStopped, PhaseOver):
        return _left_waiting(attempt, None)
    except ImageUnavailable as error:
        return _left_waiting(attempt, failure(Reason.IMAGE_UNAVAILABLE, str(error)))
    except (StepFailed, CloneFailed, SecretUnavailable) as error:
        outcome = error.outcome
    except KeeperUnavailable as error:
        if attempt.state in BEFORE_RUNNING:  # nothing of the task has run: another try, here or elsewhere
            raise
        outcome = failure(Reason.SANDBOX_ERROR, str(error), hint="see `sandbox doctor`")
    except (SandboxError, KeeperRefused, EgressUnavailable) as error:
        outcome = failure(Reason.SANDBOX_ERROR, str(error), hint="see `sandbox doctor`")
    except OSError as error:  # a full disk, most often
        message = f"the worker's host could not do its part: {error}"
        outcome = failure(Reason.SANDBOX_ERROR, message, hint="look at the disk below SANDBOX_DATA_DIR on that host")
    return Verdict.EXITED, outcome


def _left_waiting(attempt: Attempt, otherwise: Outcome | None) -> tuple[Verdict, Outcome | None]:
    """A wait was left: because somebody asked, because the phase took too long, or for its own reason."""
    asked = attempt.signals.asked_to_end()
    if asked:
        return asked, None
    if time.monotonic() < attempt.phase_deadline and otherwise:
        return Verdict.EXITED, otherwise
    name = "stage_timeout" if attempt.state is State.STAGING else "provision_timeout"
    message = f"{attempt.state} took longer than lifecycle.{name}"
    return Verdict.TIMEOUT, failure(Reason.TIMEOUT, message, hint=f"raise lifecycle.{name}", fault=Fault.PLATFORM)
