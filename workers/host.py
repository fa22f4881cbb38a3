"""The worker on a build host: takes attempts, keeps its lease, listens to the engine, says goodbye."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from orchestrator.clock import SteadyClock, boot_seconds
from orchestrator.models import Claim, Worker
from orchestrator.services import fleet
from orchestrator.services.claim import claim
from orchestrator.services.fleet import WorkerNameTaken
from orchestrator.store import attempts as attempt_rows
from orchestrator.store import tasks
from orchestrator.store.database import StoreUnavailable
from orchestrator.store.workers import UnknownWorker
from workers.adopt import adopt, destroy_expired, remove_orphans
from workers.attempt import Attempt
from workers.disk import DiskWatch
from workers.equipment import Equipment
from workers.keeper_client import KeeperRefused, KeeperUnavailable
from workers.metrics_watch import MetricsWatch
from workers.output import Progress
from workers.runner import FROM_RUNNING, STEPS, resume_ending, run
from workers.salvage import salvage
from workers.sandbox.port import EngineUnavailable, SandboxError, SandboxGone
from workers.supervisor import Verdict
from workers.task_disk_watch import TaskDiskWatch

log = logging.getLogger(__name__)

CLOSING = "it is stopping, and takes no tasks any more"
ANNOUNCE_SECONDS = 60.0
GOODBYE_SECONDS = 8.0
INSPECT_SECONDS = 30.0
"""The second source beside the engine's events, which can stop silently (fault F23)."""
ORPHANS_SECONDS = 60.0
RETRY_SECONDS = 1.0
EXPECTED = (EngineUnavailable, StoreUnavailable, SandboxError, KeeperUnavailable, KeeperRefused)
"""What may be away for a while."""
ADOPTING = "it is starting: it looks for what ran here before"


class WorkerHost:
    """One a process. `accept` and `cancel` may be called from any thread and return at once."""

    def __init__(self, equipment: Equipment) -> None:
        self._equipment = equipment
        self._product = equipment.product
        self._name = equipment.product.settings.worker_name
        self._lock = threading.Lock()
        self._attempts: dict[Claim, Attempt] = {}
        self._closing = threading.Event()
        self._stop = threading.Event()
        self._adoption: str | None = ADOPTING
        self._engine: str | None = None
        self._keeper: str | None = None
        self._disk = DiskWatch(equipment)
        self._metrics = MetricsWatch(self._running, equipment.backend, equipment.writer, self._stop)
        self._clock = SteadyClock()
        self._unknown: set[Claim] = set()
        self._beat_soon = threading.Event()
        self._lease = threading.Lock()
        self._offer: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def start(self) -> None:
        """Register, adopt, keep the lease, listen to the engine. Raises `StoreUnavailable`."""
        with suppress(EngineUnavailable):  # it is asked again as long as this worker runs
            self._engine = self._unusable_engine()
        said_at = boot_seconds()
        self._register()
        self._renew_keeper(said_at)
        duties = (self._adopt_at_start, self._heartbeats, self._watch_engine, self._listen, self._look_around)
        disks = TaskDiskWatch(self._running, self._stop)
        watches = (disks.look_often, disks.measure_often, self._metrics.look_and_tell)
        for duty in (*duties, self._tidy, *watches):
            threading.Thread(target=duty, name=duty.__name__.strip("_"), daemon=True).start()

    def _register(self) -> None:
        """Say what this worker can do. Raises `StoreUnavailable`, `WorkerNameTaken`."""
        worker = self._equipment.as_worker(self._trouble())
        fleet.register(self._product, worker)
        self._offer = worker.network_modes, worker.profiles

    def _look_at_offer(self) -> None:
        """What the full network and the engine's runtimes have become since the last look, placement must know."""
        self._equipment.full_network.look()
        worker = self._equipment.as_worker(None)
        if (worker.network_modes, worker.profiles) != self._offer and not self._stop.is_set():
            self._register()

    def _unusable_engine(self) -> str | None:
        """Why this worker cannot work with an engine that answers. Raises `EngineUnavailable`."""
        try:
            self._equipment.engine.facts()
        except SandboxError as error:
            return str(error)
        return None

    def accept(self, task_id: str, attempt: int) -> None:
        """A doorbell rang: take the attempt if it is this worker's to take."""
        self._spawn(f"attempt-{task_id}", lambda: self._claim_and_run(task_id, attempt))

    def cancel(self, task_id: str, attempt: int) -> None:
        """A doorbell rang: a cancellation is stored; the store says for which attempts."""
        self._spawn(f"cancel-{task_id}.{attempt}", self._look_at_wishes)

    def stop_taking(self) -> None:
        """From now on nothing is claimed, and placement is told so."""
        self._closing.set()
        self._beat_soon.set()

    def wait_for_attempts(self, patience_seconds: float, hurry: threading.Event) -> None:
        """Let what runs come to its end, at most so long; `hurry` ends the wait. The lease is kept meanwhile."""
        deadline = time.monotonic() + patience_seconds
        while (left := len(self._running())) and time.monotonic() < deadline:
            log.info("waiting for attempts to end", extra={"attempts": left})
            if hurry.wait(min(ANNOUNCE_SECONDS, max(0.0, deadline - time.monotonic()))):
                return

    def leave(self, adopt_seconds: float) -> None:
        """Say goodbye: running sandboxes go on and wait so long for this worker's return."""
        self._closing.set()
        self._stop.set()
        # The store first: a keeper that waits for a goodbye nobody has heard of would let two of one task run.
        if self._said_goodbye(adopt_seconds):
            with self._lease, suppress(KeeperUnavailable, KeeperRefused):
                self._equipment.keeper.pause_lease(adopt_seconds)

    def _said_goodbye(self, adopt_seconds: float) -> bool:
        deadline = time.monotonic() + GOODBYE_SECONDS
        while True:
            try:
                fleet.stop(self._product, self._name, adopt_seconds)
                return True
            except StoreUnavailable as error:
                if time.monotonic() > deadline:
                    log.warning("goodbye not stored: the keeper stops what runs when its lease ends: %s", error)
                    return False
                time.sleep(RETRY_SECONDS / 4)

    def end_all(self, patience_seconds: float) -> None:
        """End every attempt (they follow `lifecycle.retry`), then say goodbye."""
        self._closing.set()
        deadline = time.monotonic() + patience_seconds
        while (left := self._running()) and time.monotonic() < deadline:
            for attempt in left:
                attempt.signals.stop()
            time.sleep(0.05)
        self.leave(0)
        self._equipment.full_network.remove()
        with suppress(KeeperUnavailable, KeeperRefused):
            self._equipment.keeper.quit()

    def claim_lost(self, lost: Claim) -> None:
        """Called by the journal writer: another one owns this attempt now."""
        attempt = self._attempts.get(lost)
        if attempt:
            attempt.signals.stale()

    def _claim_and_run(self, task_id: str, number: int) -> None:
        if self._closing.is_set():
            return
        try:
            task = claim(self._product, self._name, task_id, number)
        except StoreUnavailable as error:
            log.warning("store unavailable, the reaper will ring again", extra={"task": task_id, "error": str(error)})
            return
        if task is None:
            log.debug("nothing to claim", extra={"task": task_id, "attempt": number})
            return
        progress = Progress(earlier_bytes=task.output_bytes)
        self._work(Attempt(self._equipment, task, task.claim, progress=progress), lambda one: run(one, STEPS))

    def _resume(self, attempt: Attempt, verdict: Verdict | None) -> None:
        def go_on(one: Attempt) -> None:
            self._look_at(one)  # it may have ended while nobody listened
            if verdict is None:
                run(one, FROM_RUNNING)
            else:
                resume_ending(one, verdict)

        with self._lock:
            self._attempts[attempt.claim] = attempt
        self._spawn(f"attempt-{attempt.claim.task_id}", lambda: self._work(attempt, go_on))

    def _work(self, attempt: Attempt, recipe: Callable[[Attempt], None]) -> None:
        with self._lock:
            self._attempts[attempt.claim] = attempt
        attempt.on_advance = self._metrics.wake
        try:
            recipe(attempt)
        finally:
            with self._lock:
                self._attempts.pop(attempt.claim, None)

    def _claims(self) -> set[Claim]:
        return {attempt.claim for attempt in self._running()}

    def _running(self) -> list[Attempt]:
        with self._lock:
            return list(self._attempts.values())

    def _spawn(self, name: str, target: Callable[[], None]) -> None:
        threading.Thread(target=target, name=name, daemon=True).start()

    def _adopt_at_start(self) -> None:
        while not self._stop.is_set():
            self._adoption = self._adopt()
            self._beat_soon.set()
            if self._adoption is None:
                return
            self._stop.wait(RETRY_SECONDS)

    def _adopt(self) -> str | None:
        """Take back what is this worker's and in nobody's hands; return what keeps it from that, if anything."""
        try:
            adopt(self._equipment, self._claims, self._resume)
        except EXPECTED as error:
            return str(error)
        except Exception as error:  # whatever it is must show, and must not stay: try again
            log.exception("adoption failed, trying again")
            return f"it cannot take back what ran here before: {error}"
        return None

    def _heartbeats(self) -> None:
        pause = self._product.settings.heartbeat_seconds
        while not self._stop.is_set():
            self._beat_soon.wait(pause)
            self._beat_soon.clear()
            pause = self._product.settings.heartbeat_seconds
            try:
                self._obey(self._beat())
                self._look_at_wishes()
                self._reconcile()
            except (UnknownWorker, WorkerNameTaken) as error:
                log.error("worker has no place in the store: restart it", extra={"why": str(error)})  # noqa: TRY400
                self._look_at_wishes_if_possible()
            except StoreUnavailable as error:  # the lease runs: be there as soon as the store is
                log.warning("heartbeat not stored", extra={"error": str(error)})
                pause = min(pause, RETRY_SECONDS)
            except EXPECTED as error:
                log.warning("heartbeat incomplete", extra={"error": str(error)})
            except Exception:
                log.exception("heartbeat failed")

    def _beat(self) -> Worker:
        said_at = boot_seconds()  # the lease runs from the word, not from its answer
        try:
            seen = fleet.heartbeat(self._product, self._name, self._trouble(), host_id=self._equipment.host_id)
        except StoreUnavailable:
            # With SQLite nobody else can take the tasks while the store is away, so the sandboxes may go on.
            if self._product.database.is_sqlite:
                self._renew_keeper(boot_seconds())
            raise
        self._renew_keeper(said_at)
        return seen

    def _obey(self, seen: Worker) -> None:
        """A drain whose deadline is over ends what still runs."""
        if seen.draining and seen.drain_until is not None and self._clock.now() >= seen.drain_until:
            for attempt in self._running():
                attempt.signals.stop()

    def _trouble(self) -> str | None:
        closing = CLOSING if self._closing.is_set() else None
        return closing or self._adoption or self._engine or self._keeper or self._disk.trouble

    def _renew_keeper(self, said_at: float) -> None:
        """Without a keeper no attempt can be begun, so placement is told; the lease in the store is kept."""
        before = self._keeper
        try:
            with self._lease:
                until = said_at + self._product.settings.keeper_lease_seconds
                left = until - boot_seconds()
                if left > 0 and not self._stop.is_set():  # after the goodbye the keeper waits for a successor
                    self._equipment.keeper.renew(left)
                    self._equipment.lease.renew(until)
            self._keeper = None
        except (KeeperUnavailable, KeeperRefused) as error:
            log.warning("keeper not renewed", extra={"error": str(error)})
            self._keeper = f"its keeper does not answer: {error}"
        if (before is None) != (self._keeper is None):
            self._beat_soon.set()

    def _watch_engine(self) -> None:
        """Ask the engine regularly, in a thread of its own: one that hangs must not cost the lease."""
        clock = SteadyClock()
        while not self._stop.is_set():
            before = self._engine, self._disk.trouble
            try:
                self._equipment.backend.ping()
                self._engine = self._unusable_engine()
                self._look_at_offer()
                destroy_expired(self._equipment, clock.now())
                self._disk.look()
            except EngineUnavailable as error:
                self._equipment.outages.note()
                self._engine = str(error)
            except (StoreUnavailable, WorkerNameTaken, OSError) as error:
                log.warning("networks, disk and preserved sandboxes not looked at", extra={"error": str(error)})
            except Exception:
                log.exception("networks, disk and preserved sandboxes not looked at")
            if [one is None for one in before] != [one is None for one in (self._engine, self._disk.trouble)]:
                self._beat_soon.set()
            self._stop.wait(self._product.settings.heartbeat_seconds)

    def _reconcile(self) -> None:
        """What the store says is ours and nobody here works on, for two heartbeats, is taken back."""
        if self._adoption is not None:
            return
        with self._product.database.read() as tx:
            live = {row.claim for _, row in attempt_rows.live_on(tx, self._name)}
        unknown = live - self._claims()
        if unknown & self._unknown:
            log.warning("attempts in nobody's hands", extra={"claims": str(unknown & self._unknown)})
            self._adopt()
        self._unknown = unknown

    def _look_at_wishes_if_possible(self) -> None:
        with suppress(StoreUnavailable):
            self._look_at_wishes()

    def _look_at_wishes(self) -> None:
        """The store is the truth: wishes to cancel, and claims that are not ours any more."""
        mine = {attempt.claim: attempt for attempt in self._running()}
        if not mine:
            return
        with self._product.database.read() as tx:
            present = {owner: tasks.get(tx, owner.task_id) for owner in mine}
        for owner, task in present.items():
            if task is None or task.claim != owner:
                mine[owner].signals.stale()
            elif task.cancellation and not task.is_terminal:
                mine[owner].signals.cancel(force=task.cancellation.force)

    def _listen(self) -> None:
        """One subscription to the engine's events for all attempts."""
        while not self._stop.is_set():
            try:
                for sandbox in self._equipment.backend.endings():
                    if sandbox:
                        self._ended(sandbox)
                    else:
                        self._inspect_all()
            except (EngineUnavailable, SandboxError) as error:
                self._equipment.outages.note()
                log.warning("engine events broke off, subscribing again", extra={"error": str(error)})
            except Exception:
                log.exception("engine events broke off, subscribing again")
            self._stop.wait(RETRY_SECONDS)

    def _ended(self, sandbox: str) -> None:
        for attempt in self._running():
            if attempt.sandbox == sandbox:
                attempt.signals.exit_event()

    def _inspect_all(self) -> None:
        for attempt in self._running():
            self._look_at(attempt)

    def _look_at(self, attempt: Attempt) -> None:
        if attempt.sandbox is None:
            return
        try:
            found = self._equipment.backend.inspect(attempt.sandbox)
            if found.running:
                attempt.signals.seen_running()
            elif found.started:
                attempt.signals.exited()
        except SandboxGone:
            attempt.signals.exited()
        except (EngineUnavailable, SandboxError) as error:  # events or the next round will tell
            log.warning("sandbox not inspected", extra={"task": attempt.claim.task_id, "error": str(error)})

    def _look_around(self) -> None:
        while not self._stop.wait(min(INSPECT_SECONDS, 6 * self._product.settings.heartbeat_seconds)):
            try:
                self._inspect_all()
            except EXPECTED as error:
                log.warning("look around incomplete", extra={"error": str(error)})
            except Exception:
                log.exception("look around failed")

    def _tidy(self) -> None:
        """Store and remove what is left of ended attempts; beside all else, because it may take a while."""
        pause = RETRY_SECONDS
        while not self._stop.wait(pause):
            if self._adoption is not None:
                continue
            pause = min(ORPHANS_SECONDS, 12 * self._product.settings.heartbeat_seconds)
            try:
                salvage(self._equipment)
                remove_orphans(self._equipment, self._claims)
            except EXPECTED as error:
                log.warning("tidying incomplete", extra={"error": str(error)})
            except Exception:
                log.exception("tidying failed")
