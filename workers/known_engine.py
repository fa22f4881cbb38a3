"""What is known of this host's engine: asked at the start and now and then, for an operator may set it up anew."""

from __future__ import annotations

import os
import threading
import time

from workers.outages import Outages
from workers.sandbox.port import EngineFacts, SandboxBackend, SandboxError

RENEWED_SECONDS = 60.0


class KnownEngine:
    """One a worker. Thread-safe."""

    def __init__(self, backend: SandboxBackend, outages: Outages) -> None:
        self._backend = backend
        self._outages = outages
        self._lock = threading.Lock()
        self._last: EngineFacts | None = None
        self._asked_at = 0.0

    @property
    def last(self) -> EngineFacts | None:
        """What the engine told last; None while it never answered."""
        return self._last

    def facts(self) -> EngineFacts:
        """What holds now: asked again after an outage, and after a minute. Raises `EngineUnavailable`, `SandboxError`.

        `SandboxError` also when this worker cannot work with such an engine.
        """
        with self._lock:
            asked_at = time.monotonic()
            if self._last is None or asked_at > self._asked_at + RENEWED_SECONDS or self._outages.since(self._asked_at):
                self._last = self._usable(self._backend.facts())
                self._asked_at = asked_at
            return self._last

    @staticmethod
    def _usable(found: EngineFacts) -> EngineFacts:
        if found.first_user_id and os.geteuid() != 0:
            raise SandboxError(
                f"the engine maps user ids (userns-remap: root is {found.first_user_id} on the host), and this worker "
                "is not root: it cannot hand a workspace over; run it as root, or turn userns-remap off"
            )
        return found
