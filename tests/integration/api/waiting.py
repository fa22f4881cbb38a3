"""Waiting in tests: poll a condition, never sleep for a time. And chance that can be repeated."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

DEADLINE_SECONDS = 30.0


def chance(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - the same in every run


def eventually(what: str, check: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> object:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within {seconds} s: {what}")


class Background:
    """A call in a thread of its own; `result` waits for it and raises what it raised."""

    def __init__(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._result: Any = None
        self._error: BaseException | None = None

        def run() -> None:
            try:
                self._result = call(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
                self._error = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> Any:
        self._thread.join(DEADLINE_SECONDS)
        assert self.done, f"not within {DEADLINE_SECONDS} s"
        if self._error:
            raise self._error
        return self._result
