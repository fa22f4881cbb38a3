"""What is known of what an attempt's sandbox uses, from looking at it now and then."""

from __future__ import annotations

from workers import cgroup_use
from workers.cgroups import ControlGroups, groups_of
from workers.sandbox.port import SandboxBackend, SandboxGone, SandboxUse


class UseGauge:
    """Of one attempt, in this process's memory only. `look` is called by one thread; what it keeps only grows.

    The kernel counts cpu time from the sandbox's start, so a worker that goes on after another one has all of it; of
    memory the highest use is kept that a look has seen.
    """

    def __init__(self) -> None:
        self.cpu_seconds: float | None = None
        self.memory_peak_bytes: int | None = None
        self.asks_engine = False
        """True where the kernel's counts are not in sight, so that each look is a call of the engine."""
        self._groups: ControlGroups | None = None
        self._silent = False

    def look(self, backend: SandboxBackend, sandbox: str) -> SandboxUse | None:
        """See what the sandbox uses now; None when it has ended, or nobody counts it.

        Raises `EngineUnavailable`, `SandboxError`.
        """
        if self._silent:
            return None
        if self._groups is None:
            found = self._first(backend, sandbox)
        else:
            found = self._asked(backend, sandbox) if self.asks_engine else cgroup_use.used(self._groups)
        if found is not None:
            self.cpu_seconds = max(self.cpu_seconds or 0.0, found.cpu_seconds)
            self.memory_peak_bytes = max(self.memory_peak_bytes or 0, found.memory_bytes)
        return found

    def _first(self, backend: SandboxBackend, sandbox: str) -> SandboxUse | None:
        """Find where it is counted; later looks need no engine for that."""
        try:
            process_id = backend.inspect(sandbox).process_id
        except SandboxGone:
            process_id = None
        if process_id is None:
            self._silent = True
            return None
        self._groups = groups_of(process_id, sandbox)
        found = cgroup_use.used(self._groups)
        self.asks_engine = found is None
        return found if found is not None else self._asked(backend, sandbox)

    def _asked(self, backend: SandboxBackend, sandbox: str) -> SandboxUse | None:
        try:
            found = backend.used(sandbox)
        except SandboxGone:
            found = None
        self._silent = found is None
        return found
