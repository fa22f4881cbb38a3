"""One attempt in the hands of this worker: what it is, what is known of it, how to speak in its name."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator import clock
from orchestrator.manifest import Manifest
from orchestrator.models import Claim, Kind, NewRecord, Resources, Task
from orchestrator.outcomes import Outcome
from orchestrator.placement import Host
from orchestrator.profiles import Profile
from orchestrator.services import claim as claims
from orchestrator.services.cancel import conclude_cancelled
from orchestrator.services.conclude import CancelRequested, give_back
from orchestrator.states import Event, State, after
from orchestrator.store import sandbox_use
from workers.agents import agent_of
from workers.agents.port import Agent, Session
from workers.egress.ledger import Ledger
from workers.egress.namespace import PROXY_PORT
from workers.equipment import Equipment
from workers.git import Credentials, GitSandbox
from workers.git_access import secret_parts
from workers.log_redaction import LIVE
from workers.model_api.meter import Meter
from workers.network.entry import Entrance
from workers.output import OutputPump, Progress
from workers.patience import patiently
from workers.redaction import NOTHING_SECRET, Redactor
from workers.sandbox.labels import ROLE_EGRESS, ROLE_GIT, ROLE_PROBE, ROLE_TASK, labels
from workers.sandbox.port import Image, Mount, SandboxSpec
from workers.supervisor import Signals, Verdict
from workers.task_disk_watch import DiskGauge
from workers.use_gauge import UseGauge
from workers.workspace import AttemptDirectory, Owner, sandbox_owner, sandbox_user_id

if TYPE_CHECKING:
    from workers.dialogue import Dialogue
    from workers.way_out import WayOut


LEASE_LOOK_SECONDS = 0.05
_SESSIONS = uuid.UUID("6f3c1c52-7d0e-4a38-9d7e-2b1f2f6f8c11")
"""The name space of the ids of agents' sessions (RFC 9562 §5.5)."""


class Stopped(Exception):
    """A step was left because something asked the attempt to end."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict)
        self.verdict = verdict


class PhaseOver(Exception):
    """The present phase took longer than the manifest allows."""


class StepFailed(Exception):
    """A step could not be done; the outcome says why and whose fault it is."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


@dataclass
class Attempt:
    """State of one attempt while this worker works on it. Used by its own thread; `signals` by any.

    `verdict` is what is stored of its ending so far, for a worker that must go on with it. `uncollected`: what it
    left could not be stored, so its directory stays. `secrets` maps names to values; they are kept here only, never
    written anywhere; `withheld`: why they are not known any more, so that nothing of its output may be shown.
    `progress` is how far its output was stored when this worker took it. `traffic` counts what its sandbox and its
    helpers send and are refused, `meter` what it uses of the model API; `way_out` is open while a command runs that
    was given one. `seen` is what a worker before this one knew of its agent's run; `resumed` the agent's session that
    it goes on from. `gate_open`: its command may have begun; the state says `running` a moment earlier.
    `on_advance` is called after each change of its state.
    """

    equipment: Equipment
    task: Task
    claim: Claim
    state: State = State.STAGING
    signals: Signals = field(default_factory=Signals)
    undo: ExitStack = field(default_factory=ExitStack)
    image: Image | None = None
    commit: str | None = None
    sandbox: str | None = None
    runtime: str | None = None
    pump: OutputPump | None = None
    progress: Progress = field(default_factory=Progress)
    running_since: float | None = None
    gate_open: bool = False
    phase_deadline: float = float("inf")
    spooled_bytes: int = 0
    verdict: dict[str, Any] = field(default_factory=dict)
    uncollected: bool = False
    traffic: Ledger = field(default_factory=Ledger)
    way_out: WayOut | None = None
    dialogue: Dialogue | None = None
    seen: Mapping[str, Any] | None = None
    resumed: Session | None = None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    withheld: str | None = None
    use_gauge: UseGauge = field(default_factory=UseGauge)
    on_advance: Callable[[], None] = field(default=lambda: None, repr=False)
    _redactor: Redactor = field(default=NOTHING_SECRET, init=False, repr=False)

    @property
    def secret_values(self) -> tuple[bytes, ...]:
        """What no log, event or message may show: the values of `secrets`, and the passwords for the repository.

        Complete from the end of `resolve_secrets`, the recipe's first step, and after an adoption (`recall`).
        """
        values, repository = list(self.secrets.values()), self.manifest.repository
        if repository is not None:
            values += secret_parts(repository.url, self.secrets.get(repository.credential or ""))
        return tuple(dict.fromkeys(value.encode() for value in values))

    @property
    def redactor(self) -> Redactor:
        """Takes them out of all that is stored or answered in this attempt's name, and out of this worker's log."""
        values = self.secret_values
        if self._redactor.values != values:
            self._redactor = LIVE.redactor(values)
        return self._redactor

    def redacted(self, outcome: Outcome) -> Outcome:
        """The outcome as it may be stored."""
        redact = self.redactor.redact
        return replace(outcome, message=redact(outcome.message), hint=redact(outcome.hint) if outcome.hint else None)

    @property
    def credentials(self) -> Credentials:
        """What git needs to reach the repository."""
        name = self.manifest.repository.credential if self.manifest.repository else None
        settings = self.equipment.product.settings
        return Credentials(self.secrets.get(name) if name else None, settings.ssh_known_hosts)

    @property
    def command_secrets(self) -> Mapping[str, str]:
        """The variables that the command is given; the credential of the repository is not among them."""
        kept = self.manifest.repository.credential if self.manifest.repository else None
        return {name: value for name, value in self.secrets.items() if name != kept}

    @cached_property
    def manifest(self) -> Manifest:
        return Manifest.from_definition(self.task.definition)

    @cached_property
    def agent(self) -> Agent:
        return agent_of(self.manifest)

    @property
    def session_id(self) -> str:
        """Under which the agent's session of this attempt is known: the same to every worker that has it."""
        claim = self.claim
        return str(
            uuid.uuid5(_SESSIONS, f"{self.equipment.installation}/{claim.task_id}/{claim.attempt}/{claim.fence}")
        )

    @cached_property
    def meter(self) -> Meter:
        """What the sandbox uses of the model API, and how much it may."""
        claude = self.manifest.claude
        return Meter(claude.max_budget_usd if claude else None, self.equipment.model_prices)

    @cached_property
    def directory(self) -> AttemptDirectory:
        def make_disk(root: Path) -> None:
            self.equipment.disks.chosen().create(root, self.effective.disk_bytes)

        def owner() -> Owner:
            facts = self.equipment.engine.facts()
            return sandbox_owner(facts.first_user_id, facts.first_group_id)

        return AttemptDirectory.of(self.equipment.product.settings.work_dir, self.claim, make_disk, owner)

    @cached_property
    def disk_gauge(self) -> DiskGauge:
        """What is known of the disk's use since this process has the attempt."""
        layer = self._written_into_root if self.profile.writable_root else None
        return DiskGauge(self.directory, self.effective.disk_bytes, layer)

    def _written_into_root(self) -> int:
        return self.equipment.backend.written_bytes(self.sandbox) if self.sandbox else 0

    @property
    def used(self) -> dict[str, Any]:
        """The columns of what its sandbox has used, as far as that was seen."""
        disk = self.disk_gauge
        return sandbox_use.at_least(
            cpu_seconds=self.use_gauge.cpu_seconds,
            memory_peak_bytes=self.use_gauge.memory_peak_bytes,
            disk_peak_bytes=disk.peak_bytes if disk.used_bytes is not None else None,
        )

    @property
    def profile(self) -> Profile:
        return self.equipment.product.settings.profiles[self.manifest.vm.profile]

    @cached_property
    def effective(self) -> Resources:
        """What is really given: the request, clamped to the host."""
        host: Host = self.equipment.as_host()
        return host.effective(self.task.requested)

    def discard_directory(self) -> None:
        """Undo of the workspace: gone, unless it holds what could not be stored yet."""
        if not self.uncollected:
            self.directory.destroy()

    def advance(self, event: Event, message: str, **facts: Any) -> None:
        """Record the next step; learn of a wish to cancel on the way. Raises `StaleClaim`."""
        product, message = self.equipment.product, self.redactor.redact(message)
        wish = patiently(lambda: claims.advance(product, self.claim, self.state, event, message, **facts))
        if wish:
            self.signals.cancel(force=wish.force)
        self.state = after(self.state, event)
        self.on_advance()

    def note(self, **facts: Any) -> None:
        """Store facts about this attempt. Raises `StaleClaim`."""
        patiently(lambda: claims.note(self.equipment.product, self.claim, **facts))

    def say(self, text: str) -> None:
        """Put the product's own words into the log."""
        self.equipment.writer.write(self.claim, [self.words(text)])

    def words(self, text: str) -> NewRecord:
        """The product's own words as a record."""
        return NewRecord(Kind.SYSTEM, clock.now(), "system", {"message": self.redactor.redact(text)})

    def interrupted(self) -> bool:
        return self.signals.asked_to_end() is not None

    def check(self) -> None:
        """Leave the recipe when something asked the attempt to end, or the phase is over.

        Raises `Stopped`, `PhaseOver`.
        """
        verdict = self.signals.asked_to_end()
        if verdict:
            raise Stopped(verdict)
        if time.monotonic() > self.phase_deadline:
            raise PhaseOver

    def pause(self, seconds: float) -> None:
        """Wait, unless the recipe is to be left. Raises `Stopped`, `PhaseOver`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.check()
            time.sleep(0.05)

    def await_lease(self) -> None:
        """Wait until the store has heard of this worker lately, and says that the attempt is still its own.

        A silent worker's task may be another's by now, also when its heartbeats come again. Raises `StaleClaim`,
        `Stopped`, `PhaseOver`.
        """
        lease, product = self.equipment.lease, self.equipment.product
        while True:
            while not lease.holds:
                self.pause(LEASE_LOOK_SECONDS)
            patiently(lambda: claims.confirm(product, self.claim))
            self.check()
            if lease.holds:  # and it is not long ago that the store said so
                return

    def give_back(self, why: str, *, trouble: str | None = None) -> None:
        """Let the task be placed again; it had not begun to run. Raises `StaleClaim`."""
        product = self.equipment.product
        name, why = product.settings.worker_name, self.redactor.redact(why)
        trouble = self.redactor.redact(trouble) if trouble else None
        try:
            patiently(lambda: give_back(product, self.claim, name, why, trouble=trouble))
        except CancelRequested:  # the wish came first: no container of it is left, so it is a fact
            self.undo.close()
            patiently(lambda: conclude_cancelled(product, self.claim))

    def within(self, seconds: float) -> None:
        """The present phase may last so long."""
        self.phase_deadline = time.monotonic() + seconds

    def spec(self) -> SandboxSpec:
        """The sandbox of the task."""
        image, volumes = (self.image.id, self.image.volumes) if self.image else (self.image_name, ())
        spec = self._spec(ROLE_TASK, image, self.directory.task_mounts(), self.effective)
        spec = replace(spec, volumes=volumes)
        if self.manifest.vm.network_mode == "full":
            return replace(spec, network=self.equipment.full_network.network)
        return spec

    def probe_spec(self) -> SandboxSpec:
        """A sandbox of the task's image in which its agent is tried, with nothing of the task in it."""
        size = Resources(min(self.effective.cpus, 2.0), max(self.effective.memory_bytes, 512 << 20), 0)
        return self._spec(ROLE_PROBE, self.image.id if self.image else self.image_name, (), size)

    def git(self, *, ignore_signals: bool = False) -> GitSandbox:
        """How git runs for this attempt: our own image, the same hardened profile.

        The patch is made on every ending, a cancellation too: it ignores the signals.
        """
        small = Resources(min(self.effective.cpus, 2.0), max(self.effective.memory_bytes, 512 << 20), 0)

        def spec_with(mounts: tuple[Mount, ...]) -> SandboxSpec:
            return self._spec(ROLE_GIT, self.equipment.git_image, mounts, small)

        return GitSandbox(
            backend=self.equipment.backend,
            spec_with=spec_with,
            interrupted=(lambda: False) if ignore_signals else self.interrupted,
            deadline=self.phase_deadline,
            network=None
            if ignore_signals
            else self.equipment.repository_network(self.manifest.repository, self.traffic, self.entrance),
        )

    def entrance(self, sandbox: str, ports: Sequence[int] = (PROXY_PORT,)) -> Entrance:
        """Where listeners of a sandbox of this attempt are to be: the task's, or a helper's before it."""
        size = Resources(1.0, 0, 0)

        def sidecar() -> SandboxSpec:
            return self._spec(ROLE_EGRESS, self.equipment.git_image, (), size)

        directory = self.directory
        owner = lambda: directory.owner().user_id  # noqa: E731 - asked for only where there is a sidecar
        return Entrance(self.equipment.entry, sandbox, directory.egress, sidecar, owner, ports)

    @property
    def image_name(self) -> str:
        """The image that was asked for; which one that is, exactly, is known when it is here."""
        return self.agent.image(self.manifest) or self.profile.image

    @property
    def _outlives_its_secrets(self) -> bool:
        """A sandbox that may be preserved keeps the engine's log of it, which would hold what the command printed.

        Without that log output may be missing when the keeper dies; a `gap` says so.
        """
        return bool(self.manifest.secrets) and self.manifest.lifecycle.failure_action == "preserve"

    def _spec(self, role: str, image: str, mounts: tuple[Mount, ...], size: Resources) -> SandboxSpec:
        settings, profile, host = self.equipment.product.settings, self.profile, self.equipment
        return SandboxSpec(
            name=f"sandbox-{uuid.uuid4().hex}",
            image=image,
            labels=labels(host.installation, settings.worker_name, self.claim, role),
            mounts=mounts,
            cpus=size.cpus,
            memory_bytes=size.memory_bytes,
            pids=profile.pids,
            tmp_bytes=profile.tmp_bytes,
            user_id=sandbox_user_id(),
            writable_root=profile.writable_root and role == ROLE_TASK,
            runtime=profile.runtime,
            log_driver="none" if role == ROLE_TASK and self._outlives_its_secrets else settings.engine_log_driver,
        )
