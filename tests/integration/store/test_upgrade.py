"""A store of the first version, with tasks in it, after an upgrade."""

from __future__ import annotations

from importlib import resources

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from orchestrator import clock, journal
from orchestrator.product import open_product
from orchestrator.services.place import place
from orchestrator.settings import load
from orchestrator.store import older_version, tasks, workers
from orchestrator.store.database import Database
from orchestrator.store.matching import Query
from orchestrator.store.tables import EPOCH
from tests.integration.store.given import worker_of

_TASK = {
    "name": "n", "labels": "{}", "priority": 0, "definition": "{}", "attempt": 0, "fence": 0, "cpus": 1.0,
    "memory_bytes": 1 << 30, "disk_bytes": 1 << 30, "profile": "basic", "network_mode": "isolated", "agent": "run",
    "counted_attempts": 0, "uncounted_losses": 0, "created_at": 5, "state_changed_at": 5, "output_bytes": 7,
    "next_seq": 2,
}  # fmt: skip


@pytest.fixture
def first_version(empty_url: str) -> Database:
    database = Database(empty_url)
    config = Config()
    config.set_main_option("script_location", str(resources.files("orchestrator.store") / "migrations"))
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection.execution_options(write=True)
        command.upgrade(config, "0001")
    rows = [
        {"id": "waits", "state": "pending"},
        {"id": "alike", "state": "pending"},
        {"id": "wide", "state": "pending", "cpus": 2.0},
        {"id": "ended", "state": "failed", "finished_at": 6, "outcome": '{"reason": "exit_nonzero"}'},
    ]
    with database.write() as tx:
        found = sa.Table("tasks", sa.MetaData(), autoload_with=tx)
        for row in rows:
            names = ", ".join(known := {**_TASK, **row})
            values = ", ".join(f":{name}" for name in known)
            tx.execute(sa.text(f"INSERT INTO {found.name} ({names}) VALUES ({values})"), known)  # noqa: S608 - ours
        tx.execute(sa.text("INSERT INTO task_labels VALUES ('waits', 'k', 'v')"))
    return database


def test_tasks_of_the_first_version_are_placed_listed_and_counted(
    first_version: Database, empty_url: str, tmp_path: object
) -> None:
    product = open_product(load({"SANDBOX_DATA_DIR": f"{tmp_path}/data", "SANDBOX_STORE_URL": empty_url}))
    with product.database.read() as tx:
        keys = {row.id: row.demand for row in tx.execute(sa.text("SELECT id, demand FROM tasks"))}
        (labelled,), _ = tasks.find(tx, Query(labels=(("k", "v"),)))
        assert tasks.outcome_counts(tx) == {"exit_nonzero": 1}
        assert tx.scalar(sa.text("SELECT created_at FROM task_labels")) == (labelled.created_at - EPOCH).microseconds
    assert keys["waits"] == keys["alike"] != keys["wide"]
    assert labelled.id == "waits"
    with product.database.write() as tx:
        workers.register(tx, worker_of(slots=2))
        placed = place(tx, clock.now())
    assert [task_id for _, task_id, _ in placed] == ["alike", "waits"]
    product.close()
    first_version.close()


def test_what_a_process_of_the_first_version_writes_after_the_migration_is_placed_listed_counted_and_read(
    first_version: Database, empty_url: str, tmp_path: object
) -> None:
    product = open_product(load({"SANDBOX_DATA_DIR": f"{tmp_path}/data", "SANDBOX_STORE_URL": empty_url}))
    with product.database.read() as tx:
        seen = journal.newest(tx)
    ended = {"id": "late-end", "state": "failed", "finished_at": 6, "outcome": '{"reason": "timeout"}'}
    with product.database.write() as tx:
        for row in ({"id": "late", "state": "pending", "priority": 9}, ended):
            names = ", ".join(known := {**_TASK, **row})
            values = ", ".join(f":{name}" for name in known)
            tx.execute(sa.text(f"INSERT INTO tasks ({names}) VALUES ({values})"), known)  # noqa: S608 - ours
        tx.execute(sa.text("INSERT INTO task_labels (task_id, key, value) VALUES ('late', 'k', 'late')"))
        tx.execute(
            sa.text(
                "INSERT INTO records (task_id, attempt, first_seq, last_seq, at, kind, body) "
                "VALUES ('late', 0, 1, 1, 5, 'state_change', '{}')"
            )
        )
    with product.database.read() as tx:
        found, _ = journal.all_after(tx, seen)
    assert [one.task_id for one in found] == ["late"]
    with product.database.write() as tx:
        older_version.mend(tx)
        assert tasks.outcome_counts(tx) == {"exit_nonzero": 1, "timeout": 1}
        assert [one.id for one in tasks.find(tx, Query(labels=(("k", "late"),)))[0]] == ["late"]
        assert tx.scalar(sa.text("SELECT count(*) FROM task_labels WHERE created_at = 0")) == 0
        workers.register(tx, worker_of(slots=1))
        assert [task_id for _, task_id, _ in place(tx, clock.now())] == ["late"]
    product.close()
    first_version.close()
