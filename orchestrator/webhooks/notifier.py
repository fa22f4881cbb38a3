"""The thread that tells webhooks what happens: in any API process, one at a time in the installation."""

from __future__ import annotations

import ipaddress
import logging
import threading

from orchestrator import clock
from orchestrator.leadership import NOTIFIER, leadership
from orchestrator.product import Product
from orchestrator.store.database import StoreUnavailable
from orchestrator.webhooks.dispatch import Dispatcher
from orchestrator.webhooks.sending import Send, Sender
from orchestrator.webhooks.telling import Teller

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""Between two looks at the journal and at what is due. A look at nothing new is two rows of the store."""
IDLE_SECONDS = 1.0
"""The same while there is no webhook."""
BREATH_SECONDS = 0.02
"""Many deliveries that end at once are one reason to look for more."""
_TAKE_OVER_SECONDS = 2.0
_AFTER_FAILURE_SECONDS = 5.0


class Notifier:
    """Tells and sends while it leads. `send` is what the product's settings allow unless it is given."""

    def __init__(self, product: Product, send: Send | None = None) -> None:
        self._database = product.database
        networks = [ipaddress.ip_network(one) for one in product.settings.webhook_private_cidrs]
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._teller = Teller(self._database)
        self._dispatcher = Dispatcher(self._database, send or Sender(networks), self._wake.set)
        self._thread = threading.Thread(target=self._run, name="notifier", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing more; what is being sent goes on in its threads."""
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout=5)
        self._dispatcher.stop()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with leadership(self._database, NOTIFIER) as leading:
                    while leading() and not self._stop.is_set():
                        self._look()
                self._stop.wait(_TAKE_OVER_SECONDS)
            except StoreUnavailable as error:
                log.warning("store unavailable, telling webhooks later", extra={"error": str(error)})
                self._stop.wait(_AFTER_FAILURE_SECONDS)
            except Exception:  # one bad row must not end it for all others
                log.exception("telling webhooks failed, trying again")
                self._stop.wait(_AFTER_FAILURE_SECONDS)

    def _look(self) -> None:
        more = self._teller.tell(clock.now())
        if more is None:
            self._stop.wait(IDLE_SECONDS)
            return
        self._dispatcher.fill()
        if not more and self._wake.wait(LOOK_SECONDS):
            self._wake.clear()
            self._stop.wait(BREATH_SECONDS)
