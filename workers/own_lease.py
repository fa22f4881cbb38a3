"""How long this worker may begin anything without another word from the store."""

from __future__ import annotations

from orchestrator.clock import boot_seconds


class OwnLease:
    """Ends when the keeper stops what it holds (`keeper_stops.Lease`), before others may take over. Thread-safe.

    A process that was stopped, or a host that was suspended, goes on in the middle of a step: what it starts then may
    run elsewhere by now. Instants are `boot_seconds`, which count a suspension.
    """

    def __init__(self) -> None:
        self._until = float("inf")  # before the first word there is nothing to begin

    def renew(self, until: float) -> None:
        self._until = until

    @property
    def holds(self) -> bool:
        return boot_seconds() < self._until
