"""The one thread of a process that looks for what is new in the store, for all who wait for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from orchestrator.store.database import Database, StoreUnavailable
from orchestrator.store.doorbell import Doorbell

log = logging.getLogger(__name__)

IDLE_SECONDS = 1.0


def start(name: str, database: Database, wanted: threading.Event, fill: Callable[[], float]) -> None:
    """Call `fill` after each commit, and after as many seconds as it returned; rest while nobody `wanted` it."""
    threading.Thread(target=_watch, args=(database, wanted, fill), name=name, daemon=True).start()


def _watch(database: Database, wanted: threading.Event, fill: Callable[[], float]) -> NoReturn:
    doorbell: Doorbell | None = None
    while True:
        try:
            if not wanted.is_set():
                wanted.wait()
                if doorbell:
                    doorbell.close()
                doorbell = None
            doorbell = doorbell or database.doorbell()
            doorbell.wait(fill())
        except StoreUnavailable as error:
            log.warning("store unavailable, who waits for news goes on waiting", extra={"error": str(error)})
            time.sleep(IDLE_SECONDS)
        except Exception:  # nobody must starve because of one bad row
            log.exception("watcher failed, going on")
            time.sleep(IDLE_SECONDS)
