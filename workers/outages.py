"""When the engine was away: without live restore it takes its sandboxes with it, and their ends mean nothing."""

from __future__ import annotations

import threading
import time


class Outages:
    """Noted by whoever meets one. Thread-safe; instants are monotonic seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_at: float | None = None

    def note(self) -> None:
        """The engine does not answer now, or its event stream broke."""
        with self._lock:
            self._last_at = time.monotonic()

    def since(self, instant: float) -> bool:
        """Tell whether the engine was away at or after `instant`."""
        with self._lock:
            return self._last_at is not None and self._last_at >= instant
