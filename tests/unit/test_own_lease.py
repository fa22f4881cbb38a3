"""A worker that the store has not heard of for its lease begins nothing."""

from __future__ import annotations

from orchestrator.clock import boot_seconds
from workers.own_lease import OwnLease


def test_it_holds_until_its_end_and_again_when_it_is_renewed() -> None:
    lease = OwnLease()
    assert lease.holds
    lease.renew(boot_seconds() - 0.001)
    assert not lease.holds
    lease.renew(boot_seconds() + 600)
    assert lease.holds
