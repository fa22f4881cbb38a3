"""Wait for the store: an attempt that works does not end because the store was away for a minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from orchestrator.store.database import StoreUnavailable

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
Result = TypeVar("Result")


def patiently(write: Callable[[], Result]) -> Result:
    """Call `write` until the store takes it; every other exception passes."""
    while True:
        try:
            return write()
        except StoreUnavailable as error:
            log.warning("store unavailable, trying again", extra={"error": str(error)})
            time.sleep(RETRY_SECONDS)
