"""The thread that runs the reaper's duties: in any API or worker process, one at a time in the installation."""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime

from orchestrator import clock
from orchestrator.leadership import REAPER, leadership
from orchestrator.leases import LeaseWatch, StoppedWatch
from orchestrator.models import WorkerState
from orchestrator.product import Product
from orchestrator.services.place import deliver
from orchestrator.services.reap import Absences, Duty, due_duties, place_again
from orchestrator.services.retention import Retention, interval_seconds
from orchestrator.store import workers
from orchestrator.store.database import StoreUnavailable

log = logging.getLogger(__name__)

MAX_SWEEP_SECONDS = 1.0
PLACE_SECONDS = 30.0
"""A round of placement although nothing happened: for the demands that no round has looked at yet."""


class Reaper:
    """Sweeps once a second while it leads."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._leases = LeaseWatch(product.settings.lease_seconds)
        self._stopped = StoppedWatch()
        self._placed_at: float | None = None
        self._clock = clock.SteadyClock()
        self._every = min(MAX_SWEEP_SECONDS, product.settings.lease_seconds / 4)
        self._retention = Retention(product)
        self._retention_every = interval_seconds(product.settings)
        self._retention_at: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reaper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)
        self._retention.stop()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            try:
                with leadership(self._product.database, REAPER) as leading:
                    while leading() and not self._stop.is_set():
                        self.sweep(time.monotonic())
                        self._look_after_ended_tasks(time.monotonic())
                        self._stop.wait(self._every)
            except StoreUnavailable as error:
                log.warning("store unavailable, sweeping later", extra={"error": str(error)})
            except Exception:  # the reaper must outlive any single bad row
                log.exception("sweep failed, trying again")
                self._stop.wait(5)

    def sweep(self, now: float) -> None:
        """One round of every duty that is due. `now` is monotonic seconds."""
        at, settings = self._clock.now(), self._product.settings
        with self._product.database.read() as tx:
            counters = {one: one.heartbeat for one in workers.all_of(tx)}
            # A stopped worker says nothing by being silent; its attempts wait for another time.
            stopped = {one.name: beat for one, beat in counters.items() if one.state is WorkerState.STOPPED}
            others = {one.name: beat for one, beat in counters.items() if one.name not in stopped}
            absent = self._leases.look(others, now) | self._stopped.look(stopped, now)
            duties = due_duties(
                tx, at, list(counters), Absences(absent, settings.takeover_seconds, settings.stopping_seconds)
            )
        for duty in duties:
            self._do(duty, at)
        if self._placed_at is None or now - self._placed_at >= PLACE_SECONDS:
            self._placed_at = now
            self._do(place_again, at)

    def _do(self, duty: Duty, at: datetime) -> None:
        """One duty that fails must not keep the others from being done."""
        try:
            with self._product.database.write() as tx:
                messages = duty(tx, at)
        except StoreUnavailable:
            raise
        except Exception:
            log.exception("duty failed, trying again")
        else:
            deliver(self._product.broker, messages)

    def _look_after_ended_tasks(self, now: float) -> None:
        if self._retention_at is None or now - self._retention_at >= self._retention_every:
            self._retention_at = now
            self._retention.begin(self._clock.now())
