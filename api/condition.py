"""How the parts are without which this process can do nothing: store, broker, artifacts, in `up` also the engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from orchestrator.artifacts import ArtifactStoreUnavailable
from orchestrator.broker.messages import BrokerUnavailable
from orchestrator.models import WorkerState
from orchestrator.product import Product
from orchestrator.store import workers
from orchestrator.store.database import StoreUnavailable

PARTS = ("store", "broker", "artifacts", "engine")
KEPT_SECONDS = 2.0
"""How long an answer is good for. Anybody may ask, and each look costs every part a connection or a write."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was seen, and when, by the clock of `Condition`."""

    at: float
    trouble: Mapping[str, str]


class Condition:
    """Thread-safe; one a process. One thread looks at a time; who asks meanwhile gets what was seen last."""

    def __init__(self, product: Product, clock: Callable[[], float] = time.monotonic) -> None:
        self._product = product
        self._clock = clock
        self._looking = threading.Lock()
        self._seen: _Seen | None = None

    def trouble(self) -> Mapping[str, str]:
        """Part → what is the matter with it, in the words of its driver; empty when all is well."""
        seen = self._seen
        if seen is not None and self._is_fresh(seen):
            return seen.trouble
        # A part that hangs must not hold up every thread of the server: only the very first answer is waited for.
        if seen is None:
            self._looking.acquire()
        elif not self._looking.acquire(blocking=False):
            return seen.trouble
        try:
            now = self._seen
            if now is None or not self._is_fresh(now):
                trouble = _trouble(self._product)
                now = self._seen = _Seen(self._clock(), trouble)
            return now.trouble
        finally:
            self._looking.release()

    def _is_fresh(self, seen: _Seen) -> bool:
        return self._clock() - seen.at < KEPT_SECONDS


def _trouble(product: Product) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        with product.database.read() as tx:
            fleet = workers.all_of(tx)
    except StoreUnavailable as error:
        return {"store": str(error)}
    try:
        product.broker.ping()
    except BrokerUnavailable as error:
        found["broker"] = str(error)
    try:
        product.artifacts.ping()
    except ArtifactStoreUnavailable as error:
        found["artifacts"] = str(error)
    if product.settings.embedded:
        mine = [one for one in fleet if one.name == product.settings.worker_name]
        if not mine or mine[0].state is not WorkerState.ACTIVE:
            found["engine"] = "the worker of this `sandbox up` has not started yet"
        elif mine[0].trouble:
            found["engine"] = mine[0].trouble
    return found
