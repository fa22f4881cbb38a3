"""How far a task is and what its sandbox has used, as the store keeps it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator import clock, journal
from orchestrator.models import Claim, Kind, NewRecord
from orchestrator.outcomes import of_exit
from orchestrator.product import Product
from orchestrator.services.claim import note
from orchestrator.services.conclude import conclude
from orchestrator.services.expire import expire_log
from orchestrator.services.purge import purge
from orchestrator.states import State
from orchestrator.store import attempts, progress
from orchestrator.store.sandbox_use import at_least
from tests.integration.store.given import claimed, now, registered, running

RETRIED = {"retry": {"max_attempts": 2, "on": ["exit_nonzero"], "backoff": "0s"}}


def say(product: Product, claim: Claim, percent: float, text: str | None, outputs: dict[str, str]) -> None:
    with product.database.write() as tx:
        journal.append(tx, claim, [journal.output("stdout", b"::progress\n", clock.now())])
        progress.save_said(tx, claim, percent, text)
        progress.save_outputs(tx, claim, outputs)


def said(product: Product) -> tuple[float | None, str | None, dict[str, str] | None]:
    task = now(product, "t")
    return task.progress_percent, task.progress_text, task.outputs


def used(product: Product, number: int = 1) -> tuple[float | None, int | None, int | None]:
    with product.database.read() as tx:
        row = attempts.get(tx, "t", number)
    assert row is not None
    return row.cpu_seconds, row.memory_peak_bytes, row.disk_peak_bytes


def test_what_a_command_says_is_its_present_attempts_and_a_new_one_begins_without(product: Product) -> None:
    registered(product)
    mine = running(product, lifecycle=RETRIED)
    assert said(product) == (None, None, None)
    say(product, mine, 40.5, "half", {"a": "1"})
    say(product, mine, 50, None, {"a": "1", "ü": "€"})
    assert said(product) == (50, None, {"a": "1", "ü": "€"})
    with product.database.write() as tx:  # what was lost, and comes late
        progress.save_said(tx, replace(mine, fence=9), 99, "late")
        progress.save_outputs(tx, replace(mine, attempt=9), {})
    assert said(product) == (50, None, {"a": "1", "ü": "€"})
    conclude(product, mine, of_exit(1, oom_killed=False))
    claimed(product, attempt=2)
    assert said(product) == (None, None, None)


@pytest.mark.parametrize("remove", [purge, lambda product, task_id: expire_log(product, task_id, timedelta(days=1))])
def test_with_the_log_goes_what_the_command_said_and_the_number_stays(
    product: Product, remove: Callable[[Product, str], None]
) -> None:
    registered(product)
    mine = running(product, until=State.COMPLETING)
    say(product, mine, 40, "half", {"a": "secret plans"})
    conclude(product, mine, of_exit(0, oom_killed=False))
    remove(product, "t")
    assert said(product) == (40, None, None)


def test_what_was_used_only_grows_in_whatever_order_it_is_stored(product: Product) -> None:
    registered(product)
    mine = running(product)
    assert used(product) == (None, None, None)
    metrics = [NewRecord(Kind.METRICS, clock.now(), body={"cpu_percent": 1})]
    with product.database.write() as tx:
        first = at_least(cpu_seconds=1.5, memory_peak_bytes=5 << 40, disk_peak_bytes=None)
        journal.append(tx, mine, metrics, **first)
    assert used(product) == (1.5, 5 << 40, None)
    note(product, mine, verdict={}, **at_least(cpu_seconds=2.25, memory_peak_bytes=7, disk_peak_bytes=9))
    note(product, mine, **at_least(cpu_seconds=2.0, memory_peak_bytes=6 << 40, disk_peak_bytes=3))
    assert used(product) == (2.25, 6 << 40, 9)
    note(product, mine, verdict={}, **at_least(cpu_seconds=None, memory_peak_bytes=None, disk_peak_bytes=None))
    assert used(product) == (2.25, 6 << 40, 9)


def test_what_a_sandbox_used_is_its_attempts_own(product: Product) -> None:
    registered(product)
    mine = running(product, lifecycle=RETRIED)
    note(product, mine, **at_least(cpu_seconds=2.0, memory_peak_bytes=6, disk_peak_bytes=3))
    with pytest.raises(journal.StaleClaim):
        note(product, replace(mine, fence=9), **at_least(cpu_seconds=3.0, memory_peak_bytes=9, disk_peak_bytes=9))
    assert used(product) == (2.0, 6, 3)
    conclude(product, mine, of_exit(1, oom_killed=False))
    assert used(product) == (2.0, 6, 3)
    second = claimed(product, attempt=2)
    note(product, second, **at_least(cpu_seconds=1.0, memory_peak_bytes=1, disk_peak_bytes=1))
    assert (used(product, 1), used(product, 2)) == ((2.0, 6, 3), (1.0, 1, 1))
