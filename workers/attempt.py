"""One attempt in the hands of this worker: what it is, what is known of it, how to speak in its name."""

from __future__ import annotations

import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

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
from workers.agents import agent_of
from workers.agents.port import Agent
from workers.equipment import Equipment
from workers.git import GitSandbox
from workers.output import OutputPump
from workers.patience import patiently
from workers.sandbox.labels import ROLE_GIT, ROLE_TASK, labels
from workers.sandbox.port import Image, Mount, SandboxSpec
from workers.supervisor import Signals, Verdict
from workers.workspace import AttemptDirectory, sandbox_user_id


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
    left could not be stored, so its directory stays.
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
    pump: OutputPump | None = None
    running_since: float | None = None
    phase_deadline: float = float("inf")
    spooled_bytes: int = 0
    verdict: dict[str, Any] = field(default_factory=dict)
    uncollected: bool = False

    @cached_property
    def manifest(self) -> Manifest:
        return Manifest.from_definition(self.task.definition)

    @cached_property
    def agent(self) -> Agent:
        return agent_of(self.manifest)

    @cached_property
    def directory(self) -> AttemptDirectory:
        return AttemptDirectory.of(self.equipment.product.settings.work_dir, self.claim)

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
        product = self.equipment.product
        wish = patiently(lambda: claims.advance(product, self.claim, self.state, event, message, **facts))
        if wish:
            self.signals.cancel(force=wish.force)
        self.state = after(self.state, event)

    def note(self, **facts: Any) -> None:
        """Store facts about this attempt. Raises `StaleClaim`."""
        patiently(lambda: claims.note(self.equipment.product, self.claim, **facts))

    def say(self, text: str) -> None:
        """Put the product's own words into the log."""
        self.equipment.writer.write(self.claim, [self.words(text)])

    @staticmethod
    def words(text: str) -> NewRecord:
        """The product's own words as a record."""
        return NewRecord(Kind.SYSTEM, clock.now(), "system", {"message": text})

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

    def give_back(self, why: str, *, trouble: str | None = None) -> None:
        """Let the task be placed again; it had not begun to run. Raises `StaleClaim`."""
        product = self.equipment.product
        name = product.settings.worker_name
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
        return self._spec(ROLE_TASK, self._image_name(), self.directory.task_mounts(), self.effective)

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
            network=None if ignore_signals else self.equipment.repository_network(self.manifest.repository),
        )

    def _image_name(self) -> str:
        return self.image.name if self.image else self.agent.image(self.manifest) or self.profile.image

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
            log_driver=settings.engine_log_driver,
        )
