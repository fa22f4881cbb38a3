"""A broker that records what it is given and refuses what the real one's users must not do."""

from __future__ import annotations

import threading

from orchestrator.broker.messages import Broker, BrokerUnavailable
from orchestrator.store import tasks
from orchestrator.store.database import Database


class StrictBroker(Broker):
    """Every message must tell about what is committed: another connection looks. `down` makes it unavailable."""

    def __init__(self, database: Database) -> None:  # no app behind it: nothing of the real broker is used
        self._database = database
        self._lock = threading.Lock()
        self.down = False
        self.attempts: list[tuple[str, str, int]] = []
        self.cancels: list[tuple[str, str, int]] = []

    def send_attempt(self, worker: str, task_id: str, attempt: int) -> None:
        self._take(self.attempts, worker, task_id, attempt)

    def send_cancel(self, worker: str, task_id: str, attempt: int) -> None:
        with self._database.read() as tx:
            task = tasks.get(tx, task_id)
        assert task is not None
        assert task.cancellation is not None, f"the wish to cancel {task_id} is not committed"
        self._take(self.cancels, worker, task_id, attempt)

    def ping(self) -> None:
        if self.down:
            raise BrokerUnavailable("the broker was not reached: told to be down")

    def close(self) -> None:
        """Nothing is open."""

    def _take(self, kept: list[tuple[str, str, int]], worker: str, task_id: str, attempt: int) -> None:
        assert worker, "a message needs a worker"
        assert attempt > 0, "attempts are counted from 1"
        with self._database.read() as tx:
            assert tasks.get(tx, task_id) is not None, f"task {task_id} is not committed"
        if self.down:
            raise BrokerUnavailable(f"attempt {attempt} of task {task_id} was not announced: told to be down")
        with self._lock:
            kept.append((worker, task_id, attempt))
