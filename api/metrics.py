"""`/metrics`: what the store holds, read when it is scraped; several API processes tell the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from api.params import no_params
from api.parts import parts
from orchestrator import clock, journal
from orchestrator.models import Kind, WorkerState
from orchestrator.services.place import PLACEMENT_SECONDS
from orchestrator.states import TERMINAL, State
from orchestrator.store import contacts, queue, tasks, workers
from orchestrator.store.database import Database
from orchestrator.webhooks.dispatch import TRIES

blueprint = Blueprint("metrics", __name__)

PHASE_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 14400, 86400)


class StoreMetrics:
    """Gauges and counters computed from the store at each scrape."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterator[Metric]:
        with self._database.read() as tx:
            states, outcomes = tasks.count_by_state(tx), tasks.outcome_counts(tx)
            oldest, fleet = queue.oldest_pending(tx), workers.all_of(tx)
            log_bytes = tasks.output_bytes(tx)
            egress = contacts.bytes_of_workers(tx)
        by_state = GaugeMetricFamily("sandbox_tasks", "Tasks by state", labels=["state"])
        for state in State:
            by_state.add_metric([state.value], states.get(state.value, 0))
        yield by_state
        yield GaugeMetricFamily(
            "sandbox_queue_depth", "Tasks that wait for a worker", states.get(State.PENDING.value, 0)
        )
        wait = (clock.now() - oldest).total_seconds() if oldest else 0.0
        yield GaugeMetricFamily("sandbox_queue_oldest_wait_seconds", "Wait of the oldest pending task", wait)
        ended = GaugeMetricFamily("sandbox_outcomes", "Ended tasks in the store, by reason", labels=["reason"])
        for reason, count in outcomes.items():
            ended.add_metric([reason], count)
        yield ended
        yield GaugeMetricFamily("sandbox_log_bytes", "Output of the tasks in the store, in bytes", log_bytes)
        up = GaugeMetricFamily("sandbox_workers", "Workers by state", labels=["state"])
        for worker_state in WorkerState:
            up.add_metric([worker_state.value], sum(one.state is worker_state for one in fleet))
        yield up
        moved = CounterMetricFamily(
            "sandbox_egress_bytes",
            "Bytes that sandboxes sent up and got down through their way out",
            labels=["worker", "direction"],
        )
        for worker, (bytes_up, bytes_down) in egress.items():
            moved.add_metric([worker, "up"], bytes_up)
            moved.add_metric([worker, "down"], bytes_down)
        yield moved


class PhaseDurations:
    """How long tasks stay in each state, from the journal's state changes since this process started."""

    def __init__(self, database: Database, registry: CollectorRegistry) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._entered: dict[str, tuple[str, datetime]] = {}
        self._seen = self._newest()
        self._histogram = Histogram(
            "sandbox_phase_seconds",
            "Time tasks spent in a state",
            ["state"],
            buckets=PHASE_BUCKETS,
            registry=registry,
        )

    def _newest(self) -> journal.Place:
        with self._database.read() as tx:
            return journal.newest(tx)

    def update(self) -> None:
        """Read the state changes since the last scrape."""
        with self._lock, self._database.read() as tx:
            while True:
                found, self._seen = journal.all_after(tx, self._seen, kinds=[Kind.STATE_CHANGE])
                for one in found:
                    self._observe(one.task_id, one.body["new_state"], one.at)
                if not found:
                    return

    def _observe(self, task_id: str, new_state: str, at: datetime) -> None:
        before = self._entered.pop(task_id, None)
        if before:
            self._histogram.labels(before[0]).observe(max(0.0, (at - before[1]).total_seconds()))
        if State(new_state) not in TERMINAL:
            self._entered[task_id] = (new_state, at)


class Metrics:
    """The registry of one API process. `long_answers` counts those that are being sent."""

    def __init__(self, database: Database, long_answers: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        Gauge(
            "sandbox_api_long_answers",
            "Answers this process is sending: followed logs, event streams, downloads, waiting cancellations",
            registry=self.registry,
        ).set_function(long_answers)
        self.registry.register(StoreMetrics(database))
        self.registry.register(PLACEMENT_SECONDS)
        self.registry.register(TRIES)
        self._phases = PhaseDurations(database, self.registry)

    def text(self) -> bytes:
        self._phases.update()
        return generate_latest(self.registry)


@blueprint.get("/metrics")
def metrics() -> Response:
    no_params()
    return Response(parts().metrics.text(), content_type=CONTENT_TYPE_LATEST)
