"""What goes when its time is over, what stays, and what is said about it."""

from __future__ import annotations

import io
import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator import clock, journal
from orchestrator.artifacts import ArtifactStoreUnavailable, DirectoryStore
from orchestrator.log_reader import LogReader
from orchestrator.models import Artifact, Kind, NewRecord, Task
from orchestrator.outcomes import of_exit
from orchestrator.product import Product
from orchestrator.services import retention
from orchestrator.services.archive import archive_task
from orchestrator.services.conclude import conclude
from orchestrator.services.expire import forget
from orchestrator.services.prune import due
from orchestrator.services.purge import storage_prefix
from orchestrator.services.retention import Retention, interval_seconds, retain
from orchestrator.services.submit import submit
from orchestrator.states import State
from orchestrator.store import artifacts, expiry, tasks, workers
from orchestrator.store import attempts as attempt_rows
from orchestrator.store.expiry import Span
from orchestrator.store.tables import metadata
from orchestrator.store.tables import tasks as task_table
from tests.integration.store.given import (
    aged,
    brought,
    claimed,
    manifest_of,
    now,
    registered,
    running,
    submitted,
    talking,
)
from tests.integration.store.storage import StorageWithFaults

DAY = timedelta(days=1).total_seconds()
SAID = b"x" * 20_000 + b"\n"


@pytest.fixture
def storage(tmp_path: Path) -> StorageWithFaults:
    return StorageWithFaults(DirectoryStore(tmp_path / "artifacts"))


@pytest.fixture
def product(product: Product, storage: StorageWithFaults) -> Product:
    registered(product)
    return replace(product, artifacts=storage)


def keeping(product: Product, **changes: float) -> Product:
    return replace(product, settings=replace(product.settings, **changes))


def old(product: Product, task_id: str = "t", days: float = 31, *, preserved: bool = False, **sections: object) -> None:
    """A task that ended so long ago, with output, an artifact, labels and an idempotency key."""
    manifest = manifest_of(task_id=task_id, labels={"team": "a"}, **sections)
    submit(product, manifest, idempotency_key=f"key of {task_id}")
    mine = claimed(product, task_id)
    brought(product, mine, State.RUNNING)
    key = f"{storage_prefix(task_id)}/1/0"
    found = product.artifacts.put(key, io.BytesIO(b"hello"), limit=10)
    one = Artifact(task_id, 1, "out.txt", found.size_bytes, "text/plain", found.sha256, clock.now(), key)
    with product.database.write() as tx:
        journal.append(tx, mine, [journal.output("stdout", SAID, clock.now())])
        artifacts.replace_all(tx, task_id, 1, [one])
    conclude(product, mine, of_exit(1, oom_killed=False), preserve_hint="look" if preserved else None)
    aged(product, task_id, days * DAY)


def found(product: Product, task_id: str = "t") -> Task | None:
    with product.database.read() as tx:
        return tasks.get(tx, task_id)


def log_of(product: Product, task_id: str = "t") -> list[bytes]:
    rows = LogReader(product.database, product.artifacts).backwards(task_id)
    return [row.data for row in rows if row.data]


def gaps(product: Product, task_id: str = "t") -> list[str]:
    rows = LogReader(product.database, product.artifacts).backwards(task_id)
    return [row.body["message"] for row in rows if row.kind is Kind.GAP]


def artifacts_of(product: Product, task_id: str = "t") -> list[Artifact]:
    with product.database.read() as tx:
        return artifacts.of_task(tx, task_id, 1)


def files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "artifacts" / "tasks").rglob("*") if path.is_file()]


@pytest.mark.parametrize("archived", [False, True])
def test_a_task_goes_with_all_it_left(product: Product, tmp_path: Path, archived: bool) -> None:
    old(product)
    if archived:
        assert archive_task(product, "t")
    submitted(product, "child", parent_id="t")
    retain(product, clock.now())
    assert files(tmp_path) == []
    with product.database.read() as tx:
        for table in metadata.sorted_tables:
            if "task_id" in table.c:
                left = tx.scalars(sa.select(table.c.task_id).distinct()).all()
                assert set(left) <= {"child"}, table.name
        assert tx.scalars(sa.select(task_table.c.id)).all() == ["child"]
        assert tasks.children_of(tx, "t") == ["child"]
    assert now(product, "child").parent_id == "t"


def test_what_is_younger_or_has_not_ended_stays(product: Product) -> None:
    old(product, "young", days=29)
    running(product, "long")
    aged(product, "long", 40 * DAY)
    retain(product, clock.now())
    assert log_of(product, "young") == [SAID]
    assert found(product, "long") is not None


def test_an_id_and_an_idempotency_key_can_be_used_again_once_their_task_is_gone(product: Product) -> None:
    old(product)
    retain(product, clock.now())
    again = submit(product, manifest_of("other", task_id="t"), idempotency_key="key of t")
    assert (again.name, again.attempt) == ("other", 0)
    assert log_of(product) == []


def test_zero_keeps_everything_for_ever(product: Product) -> None:
    old(product, days=3000)
    retain(keeping(product, retention_days=0, log_retention_days=0, artifact_retention_days=0), clock.now())
    assert log_of(product) == [SAID]
    assert len(artifacts_of(product)) == 1


@pytest.mark.parametrize("archived", [False, True])
def test_logs_may_go_earlier_and_their_place_says_so(product: Product, tmp_path: Path, archived: bool) -> None:
    old(product, days=8)
    old(product, "young", days=6)
    if archived:
        assert archive_task(product, "t")
    kept = keeping(product, log_retention_days=7)
    retain(kept, clock.now())
    retain(kept, clock.now())
    assert log_of(product) == []
    (message,) = gaps(product)
    said = "the log of this task (20001 bytes of output) was removed"
    assert message == f"{said}: it ended more than SANDBOX_LOG_RETENTION_DAYS=7 days ago"
    task = now(product, "t")
    assert (task.state, task.purged_at) == (State.FAILED, None)
    assert len(artifacts_of(product)) == 1
    assert not list((tmp_path / "artifacts" / "tasks" / "t").glob("log/*"))
    assert log_of(product, "young") == [SAID]


def test_the_words_of_an_agent_are_a_log_without_any_output(product: Product) -> None:
    mine = talking(product, until=State.COMPLETING)
    with product.database.write() as tx:
        journal.append(tx, mine, [NewRecord(Kind.EVENT, clock.now(), body={"type": "message", "text": "a secret"})])
    conclude(product, mine, of_exit(0, oom_killed=False))
    aged(product, "t", 8 * DAY)
    kept = keeping(product, log_retention_days=7)
    assert due(kept, clock.now()).logs == {"t"}
    retain(kept, clock.now())
    with product.database.read() as tx:
        assert journal.after(tx, "t", 0, kinds=(Kind.EVENT,)) == []
    assert due(kept, clock.now()).logs == frozenset()


def test_artifacts_may_go_earlier(product: Product, tmp_path: Path) -> None:
    old(product, days=8)
    archive_task(product, "t")
    retain(keeping(product, artifact_retention_days=7), clock.now())
    assert artifacts_of(product) == []
    assert log_of(product) == [SAID]
    assert not (tmp_path / "artifacts" / "tasks" / "t" / "1").exists()


def test_a_task_whose_sandbox_a_host_still_holds_stays_without_data_until_it_is_gone(
    product: Product, tmp_path: Path
) -> None:
    old(product, preserved=True, lifecycle={"failure_action": "preserve"})
    retain(product, clock.now())
    task = now(product, "t")
    assert task.purged_at is not None
    assert (log_of(product), files(tmp_path)) == ([], [])
    with product.database.read() as tx:
        assert [one.task_id for one in attempt_rows.preserved_due(tx, "w", clock.now())] == ["t"], "its host is told"
    retain(product, clock.now())
    assert found(product) is not None
    with product.database.write() as tx:
        attempt_rows.release_preserved(tx, "t")
    retain(product, clock.now())
    assert found(product) is None


def test_a_task_that_is_held_is_not_forgotten_by_who_looked_before(product: Product) -> None:
    old(product, preserved=True, lifecycle={"failure_action": "preserve"})
    forget(product, "t")
    assert found(product) is not None


@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_pages_hold_each_task_once_also_when_all_ended_at_once(product: Product, size: int) -> None:
    ids = [f"t{number}" for number in range(5)]
    for task_id in ids:
        old(product, task_id)
    at = clock.now()
    with product.database.write() as tx:
        tx.execute(task_table.update().where(task_table.c.id != "t4").values(finished_at=at))
    span, seen = Span(at), []
    with product.database.read() as tx:
        while page := expiry.to_archive(tx, span, size):
            seen += [one.task_id for one in page]
            span = span.behind(page[-1])
    assert seen == ["t4", "t0", "t1", "t2", "t3"]


def test_nobody_waits_for_the_sandbox_of_a_removed_worker(product: Product) -> None:
    old(product, preserved=True, lifecycle={"failure_action": "preserve"})
    with product.database.write() as tx:
        workers.remove(tx, "w")
    retain(product, clock.now())
    assert found(product) is None


def test_output_is_archived_once_it_is_old_enough(product: Product, storage: StorageWithFaults) -> None:
    old(product, "old", days=0.1)
    old(product, "new", days=0)
    storage.put_keys.clear()
    retain(product, clock.now())
    assert {key.split("/")[1] for key in storage.put_keys} == {"old"}
    retain(keeping(product, archive_after_seconds=0), clock.now())
    assert {key.split("/")[1] for key in storage.put_keys} == {"old", "new"}
    before = len(storage.put_keys)
    retain(keeping(product, archive_after_seconds=0), clock.now())
    assert len(storage.put_keys) == before
    assert log_of(product, "old") == log_of(product, "new") == [SAID]


def test_more_than_a_page_is_done_in_one_round_and_one_bad_task_keeps_no_other(
    product: Product, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retention, "PAGE", 2)
    for number in range(5):
        old(product, f"t{number}")
    aged(product, "t1", DAY)  # the oldest one

    def fail_once(product: Product, task_id: str) -> None:
        if task_id == "t1":
            raise RuntimeError("a bad row")
        forget(product, task_id)

    with monkeypatch.context() as broken, caplog.at_level(logging.ERROR):
        broken.setattr(retention, "forget", fail_once)
        retain(product, clock.now())
    assert [number for number in range(5) if found(product, f"t{number}")] == [1]
    assert "retention of a task failed, trying again later" in caplog.text
    retain(product, clock.now())
    assert found(product, "t1") is None


def test_while_the_storage_is_away_nothing_goes_and_one_line_says_so(
    product: Product, storage: StorageWithFaults, caplog: pytest.LogCaptureFixture
) -> None:
    old(product)
    storage.down = True
    with pytest.raises(ArtifactStoreUnavailable):
        retain(product, clock.now())
    rounds = Retention(product)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            rounds._round(clock.now())
    assert len([one for one in caplog.records if "retention waits" in one.message]) == 1
    assert log_of(product) == [SAID]
    storage.down = False
    rounds._round(clock.now())
    assert found(product) is None


def test_a_second_look_passes_over_what_is_done(product: Product) -> None:
    kept = keeping(product, log_retention_days=7)
    old(product, days=8)
    rounds = Retention(kept)
    at = clock.now()
    rounds.round(at)
    old(product, "later", days=7)
    rounds.round(at + timedelta(hours=1))
    assert (log_of(product), log_of(product, "later")) == ([], [])


@pytest.mark.parametrize(("after", "interval"), [(3600, 600), (0, 1), (60, 30), (10_000_000, 600)])
def test_the_interval_follows_how_soon_output_is_to_be_archived(
    product: Product, after: float, interval: float
) -> None:
    assert interval_seconds(replace(product.settings, archive_after_seconds=after)) == interval


def test_an_operator_limits_how_long_sandboxes_are_preserved(product: Product) -> None:
    lifecycle = {"failure_action": "preserve", "preserve_for": "2h"}
    for limit, expected in ((600, 600), (0, 7200), (86_400, 7200)):
        mine = running(product, f"t{limit}", lifecycle=lifecycle)
        limited = keeping(product, preserve_max_seconds=limit)
        conclude(limited, mine, of_exit(1, oom_killed=False), preserve_hint="look")
        task = now(product, mine.task_id)
        assert task.preserve_until == task.finished_at + timedelta(seconds=expected)
