"""A host whose disk gets low: the oldest preserved sandboxes go, then tasks are not taken any more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

from orchestrator.models import Resources
from orchestrator.outcomes import Reason, failure
from orchestrator.product import Product, open_product
from orchestrator.services.claim import note
from orchestrator.services.conclude import conclude
from orchestrator.settings import load
from orchestrator.states import State
from orchestrator.store import attempts as attempt_rows
from tests.integration.store.given import brought, claimed, registered, submitted
from workers.disk import DiskWatch
from workers.equipment import Equipment


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@dataclass
class Disk:
    """A disk of 100 units; each sandbox that is destroyed frees four."""

    free: float = 50
    destroyed: list[str] = field(default_factory=list)

    def destroy(self, sandbox: str) -> None:
        self.destroyed.append(sandbox)
        self.free += 4

    def usage(self, _path: Path) -> Usage:
        return Usage(100 << 30, int((100 - self.free) * (1 << 30)), int(self.free * (1 << 30)))


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Product]:
    opened = open_product(load({"SANDBOX_WORKER_NAME": "w"}, data_dir=tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr("shutil.disk_usage", disk.usage)
    return disk


@pytest.fixture
def watch(product: Product, disk: Disk) -> DiskWatch:
    nothing: Any = None
    return DiskWatch(
        Equipment(
            product, cast("Any", disk), nothing, nothing, "installation", "host", Resources(1, 1, 1), nothing, nothing
        )
    )


def preserved(product: Product, *ids: str) -> None:
    registered(product, slots=10, cpus=100)
    for task_id in ids:
        submitted(product, task_id)
        mine = claimed(product, task_id)
        brought(product, mine, State.COMPLETING)
        note(product, mine, sandbox=f"sandbox-of-{task_id}")
        conclude(product, mine, failure(Reason.SANDBOX_ERROR, "it broke"), preserve_hint="look there")


def test_a_disk_with_room_keeps_everything(product: Product, disk: Disk, watch: DiskWatch) -> None:
    preserved(product, "a")
    disk.free = 10
    watch.look()
    assert (watch.trouble, disk.destroyed) == (None, [])


def test_the_oldest_preserved_sandboxes_make_room_and_no_more_of_them_than_needed(
    product: Product, disk: Disk, watch: DiskWatch
) -> None:
    preserved(product, "oldest", "second", "third")
    disk.free = 4
    watch.look()
    assert disk.destroyed == ["sandbox-of-oldest", "sandbox-of-second"]
    assert watch.trouble is None
    with product.database.read() as tx:
        assert {one.task_id for one in attempt_rows.preserved_on(tx, "w")} == {"third"}


def test_a_full_disk_keeps_the_worker_from_taking_tasks_until_it_is_clearly_better(
    disk: Disk, watch: DiskWatch
) -> None:
    disk.free = 4
    watch.look()
    assert watch.trouble is not None
    assert "its disk is nearly full: 4.0G of 100.0G (4.0 %)" in watch.trouble
    assert "SANDBOX_DISK_STOP_PERCENT" in watch.trouble
    disk.free = 5.5
    watch.look()
    assert watch.trouble is not None
    disk.free = 6
    watch.look()
    assert watch.trouble is None
