"""Faults at random times, one after the other, chosen by a seeded generator (F1–F8, F16, F18 as far as they apply)."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable

from orchestrator.broker.messages import Broker, BrokerUnavailable, open_broker
from tests.e2e.faults.fleet_api import FleetApi
from tests.e2e.faults.installation import Installation
from tests.e2e.faults.points import BEFORE_RUNNING, ENDING
from tests.e2e.faults.processes import Part
from tests.servers.engine import Engine

RING_TIMES = 20


class Chaos:
    """Makes one fault happen, heals it, and takes the next. Used by one thread; everything runs when it returns.

    `engine` is the second engine if the workers use one: it is then killed and started again, too.
    """

    def __init__(self, installation: Installation, rng: random.Random, engine: Engine | None = None) -> None:
        self._it = installation
        self._rng = rng
        self._engine = engine
        self._sender: Broker = open_broker(installation.broker.url)
        self._due: list[Callable[[], None]] = []
        self.happened: Counter[str] = Counter()
        self._faults: tuple[Callable[[], None], ...] = (
            self.worker_killed,
            self.worker_killed_at_a_point,
            self.worker_stays_away,
            self.worker_paused,
            self.broker_away,
            self.store_away,
            self.api_killed,
            self.rung_again,
            *((self.engine_killed,) if engine else ()),
        )

    def one(self) -> None:
        """The next fault, from its beginning to its end. Every kind comes once before any comes again."""
        if not self._due:
            self._due = self._rng.sample(self._faults, len(self._faults))
        fault = self._due.pop()
        fault()
        self.happened[fault.__name__] += 1
        self._revive()

    def close(self) -> None:
        self._sender.close()

    def worker_killed(self) -> None:
        """F2, F4: killed, and started again at once."""
        worker = self._any_worker()
        worker.kill()
        worker.start()

    def worker_killed_at_a_point(self) -> None:
        """F1, F4: killed at the next task that gets to a step of the recipe."""
        worker, point = self._any_worker(), self._rng.choice((*BEFORE_RUNNING, *ENDING))
        worker.kill()
        for file in self._it.hosts[worker.name].data_dir.glob("run/faults/*"):
            file.unlink()  # it may have died there before
        worker.start(wait=False, SANDBOX_TEST_FAULTS=f"kill@{point}")
        self._pass(5.0, unless=lambda: not worker.running)
        worker.kill()
        worker.start()

    def worker_stays_away(self) -> None:
        """F3: killed, and away for longer than its lease and its keeper's patience."""
        worker = self._any_worker()
        worker.kill()
        self._pass(self._rng.uniform(8.0, 15.0))
        worker.start()

    def worker_paused(self) -> None:
        """F5: silent for shorter or longer than its lease."""
        worker = self._any_worker()
        worker.pause()
        self._pass(self._rng.uniform(1.0, 14.0))
        worker.resume()

    def broker_away(self) -> None:
        """F6: killed; comes back as it was, or empty."""
        self._it.broker.kill()
        self._pass(self._rng.uniform(0.5, 5.0))
        if self._rng.random() < 0.5:
            self._it.broker.empty()
        self._it.broker.start()

    def store_away(self) -> None:
        """F7: stopped as by a crash."""
        self._it.store.stop()
        try:
            self._pass(self._rng.uniform(0.5, 6.0))
        finally:
            self._it.store.start()

    def api_killed(self) -> None:
        part = self._rng.choice(self._it.apis)
        part.kill()
        part.start()

    def rung_again(self) -> None:
        """F16: doorbells nobody asked for, for every task that has not ended."""
        for task in self._it.api.get("/tasks", state="pending,staging,running", limit=50)["tasks"]:
            for _ in range(RING_TIMES):
                try:
                    self._sender.send_attempt(self._rng.choice(list(self._it.hosts)), task["id"], task["attempt"] or 1)
                except BrokerUnavailable:
                    return

    def engine_killed(self) -> None:
        """F8: with live-restore, so that the containers go on."""
        assert self._engine is not None
        self._engine.kill()
        self._pass(self._rng.uniform(0.2, 2.0))
        self._engine.start(live_restore=True)

    def _any_worker(self) -> Part:
        """One that has something to lose, if any has."""
        fleet = self._it.api.workers()
        busy = sorted(name for name, one in fleet.items() if one["task_ids"])
        return self._it.worker(self._rng.choice(busy or sorted(self._it.hosts)))

    @staticmethod
    def _pass(seconds: float, unless: Callable[[], bool] = lambda: False) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not unless():
            time.sleep(0.1)

    def _revive(self) -> None:
        for part in self._it.parts():
            if not part.running:
                part.start()


class Cancellers:
    """F18: cancels some tasks at random moments; every 200 must turn out true."""

    def __init__(self, api: FleetApi, rng: random.Random, share: float) -> None:
        self._api = api
        self._rng = rng
        self._share = share
        self._threads: list[threading.Thread] = []
        self.promised: list[str] = []

    def consider(self, task: str) -> None:
        """Perhaps cancel this one, some seconds from now."""
        if self._rng.random() < self._share:
            thread = threading.Thread(target=self._cancel, args=(task, self._rng.uniform(0.0, 6.0)), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _cancel(self, task: str, after_seconds: float) -> None:
        time.sleep(after_seconds)
        answer = self._api.cancel(task, wait=5)
        if answer.status_code == 200 and answer.json()["new_state"] == "cancelled":
            self.promised.append(task)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(120)
