"""Ask something that may hang for ever, and do not hang."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future


class BoundedCheck:
    """Runs `check` in a thread of its own, and waits for it `timeout_seconds` at most. Thread-safe.

    A system call on a dead network mount cannot be interrupted. Its thread stays; callers that come
    meanwhile wait for that one and start no further: a health check every second must not collect threads.
    """

    def __init__(self, check: Callable[[], None], timeout_seconds: float) -> None:
        self._check = check
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._running: Future[None] | None = None

    def __call__(self) -> None:
        """Raise what `check` raised, or `TimeoutError` (an `OSError`) when it has not ended."""
        with self._lock:
            if self._running is None or self._running.done():
                self._running = Future()
                threading.Thread(target=self._run, args=[self._running], name="bounded-check", daemon=True).start()
            running = self._running
        try:
            running.result(self._timeout_seconds)
        except TimeoutError:
            if running.done():  # the check's own
                raise
            raise TimeoutError(f"it has not answered within {self._timeout_seconds:g} s") from None

    def _run(self, result: Future[None]) -> None:
        try:
            self._check()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
            result.set_exception(error)
        else:
            result.set_result(None)
