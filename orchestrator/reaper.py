"""The thread that runs the reaper's duties: in any API or worker process, one at a time in the installation."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from orchestrator import clock
from orchestrator.leases import LeaseWatch, StoppedWatch
from orchestrator.models import WorkerState
from orchestrator.product import Product
from orchestrator.services.place import deliver
from orchestrator.services.reap import Absences, Duty, due_duties, place_again
from orchestrator.services.retention import Retention, interval_seconds
from orchestrator.store import workers
from orchestrator.store.database import Database, StoreUnavailable

log = logging.getLogger(__name__)

MAX_SWEEP_SECONDS = 1.0
PLACE_SECONDS = 30.0
"""A round of placement although nothing happened: for the demands that no round has looked at yet."""
_LOCK_KEY = 0x5A4DB0C7


class Reaper:
    """Sweeps once a second while it holds the installation's reaper lock."""

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
                with leadership(self._product.database) as leading:
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


@contextmanager
def leadership(database: Database) -> Iterator[Callable[[], bool]]:
    """Take the reaper lock if it is free; what is yielded tells whether it is held (still).

    The store frees it when the holder dies: no row with a date. On PostgreSQL it lasts as long as its
    connection, so it can be lost before. Raises `StoreUnavailable`.
    """
    if database.is_sqlite:
        lock = os.open(Path(str(database.url.database)).with_suffix(".reaper.lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            held = _flocked(lock)
            yield lambda: held
        finally:
            os.close(lock)
        return
    with database.session() as connection:
        held = bool(connection.scalar(sa.text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK_KEY}))
        try:
            yield lambda: held and _answers(connection)
        finally:
            if held and _answers(connection):
                connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK_KEY})


def _answers(connection: sa.Connection) -> bool:
    if connection.invalidated:  # a new one would answer, and not hold the lock
        return False
    try:
        connection.execute(sa.text("SELECT 1"))
    except sa.exc.DBAPIError:
        return False
    return True


def _flocked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
