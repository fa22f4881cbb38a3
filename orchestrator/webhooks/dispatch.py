"""Sends what is due, some of it at a time, and stores how it ended.

A result is stored after the answer: who dies in between sends once more, under the same id.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from prometheus_client import Counter

from orchestrator import clock
from orchestrator.models import Delivery, DeliveryState, Webhook
from orchestrator.store import deliveries, webhooks
from orchestrator.store.database import Database, StoreUnavailable
from orchestrator.webhooks.lanes import THREADS, Lanes
from orchestrator.webhooks.retrying import Tried, verdict
from orchestrator.webhooks.sending import Send
from orchestrator.webhooks.signing import headers

log = logging.getLogger(__name__)

TRIES = Counter(
    "sandbox_webhook_tries",
    "Tries of this process to deliver something to a webhook, by what came of it",
    ["result"],
    registry=None,
)
for _result in ("delivered", "retried", "failed"):
    TRIES.labels(_result)
REST_SECONDS = 5.0
"""After an end that could not be stored: what was sent is still due, and would be sent again at once."""


class Dispatcher:
    """`send` is called in threads, `on_end` after each. `fill` is for one thread."""

    def __init__(
        self,
        database: Database,
        send: Send,
        on_end: Callable[[], object] = lambda: None,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._database = database
        self._send = send
        self._on_end = on_end
        self._now = now
        self._lanes = Lanes()
        self._lock = threading.Lock()
        self._rests_until = 0.0
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="webhook")

    def fill(self) -> int:
        """Begin to send what is due, as far as there are threads for it; return how many. Raises `StoreUnavailable`."""
        begun, last = 0, -1
        while begun > last and time.monotonic() >= self._rests_until:
            last = begun
            with self._lock:
                closed, free = self._lanes.look(), self._lanes.free
            if not free:
                break
            with self._database.read() as tx:
                # As many as there are threads: some may be under way already.
                found = deliveries.due(
                    tx, self._now(), without_origins=closed.origins, without_owners=closed.owners, limit=2 * THREADS
                )
            begun += sum(self._begin(delivery, webhook) for delivery, webhook in found)
        return begun

    def _begin(self, delivery: Delivery, webhook: Webhook) -> bool:
        key = (delivery.webhook_id, delivery.number)
        with self._lock:
            if not self._lanes.enter(key, webhook.origin, webhook.owner):
                return False
        self._pool.submit(self._deliver, delivery, webhook)
        return True

    def stop(self) -> None:
        """Begin nothing more; what is under way goes on."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _deliver(self, delivery: Delivery, webhook: Webhook) -> None:
        tried = Tried(None, "it was not tried", 0)
        try:
            tried = self._tried(delivery, webhook)
            conclude(self._database, delivery, tried, self._now(), chance=random.random())  # noqa: S311 - a delay
        except Exception as error:  # whatever it is: the next one may fare better
            self._rests_until = time.monotonic() + REST_SECONDS
            log.log(
                logging.WARNING if isinstance(error, StoreUnavailable) else logging.ERROR,
                "end of a delivery not stored, it is made again",
                exc_info=not isinstance(error, StoreUnavailable),
                extra={**_named(delivery), "error": str(error)},
            )
        finally:
            with self._lock:
                self._lanes.leave((delivery.webhook_id, delivery.number), tried.milliseconds / 1000)
            self._on_end()

    def _tried(self, delivery: Delivery, webhook: Webhook) -> Tried:
        body = delivery.body.encode()
        try:
            return self._send(webhook.url, body, headers(delivery.event_id, self._now(), body, webhook.secret))
        except Exception:  # a try that ends in no foreseen way must be counted, or it would be made for ever
            log.exception("delivery ended in no foreseen way", extra=_named(delivery))
            return Tried(None, "it could not be sent; the server's log says why", 0)


def conclude(database: Database, delivery: Delivery, tried: Tried, at: datetime, *, chance: float) -> None:
    """Store how a try ended, and what comes of it for the webhook. Raises `StoreUnavailable`."""
    with database.write() as tx:
        webhook = webhooks.get(tx, delivery.webhook_id, for_update=True)
        found = deliveries.get(tx, delivery.webhook_id, delivery.number)
        if webhook is None or found is None:  # deleted meanwhile
            return
        if (found.next_at, found.tries) != (delivery.next_at, delivery.tries):
            return  # another one was faster, or it is to be sent again
        decided = verdict(webhook, found, tried, at, chance=chance)
        deliveries.note(tx, found, tried, decided, at)
        if decided.state is DeliveryState.DELIVERED:
            webhooks.note_success(tx, webhook.id)
        else:
            webhooks.note_failure(tx, webhook.id, at)
        if decided.disable_because:
            webhooks.disable(tx, webhook.id, at, decided.disable_because)
            deliveries.give_up_waiting(tx, webhook.id, f"the webhook was disabled: {decided.disable_because}")
    if decided.state is DeliveryState.DELIVERED:
        TRIES.labels("delivered").inc()
        return
    TRIES.labels("retried" if decided.next_at else "failed").inc()
    told = {**_named(delivery), "status": tried.status, "error": tried.error, "state": decided.state.value}
    log.info("delivery failed" if decided.next_at is None else "delivery failed, trying again", extra=told)
    if decided.disable_because:
        log.warning("webhook disabled", extra={"webhook": webhook.id, "why": decided.disable_because})


def _named(delivery: Delivery) -> dict[str, object]:
    return {"webhook": delivery.webhook_id, "delivery": delivery.number, "task": delivery.task_id}
