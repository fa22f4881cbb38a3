"""`sandbox admin`: what an operator does with the store, run as the command is."""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from click.testing import CliRunner

from orchestrator import clock, journal
from orchestrator.cli import Deferred, make_root, run
from orchestrator.commands.admin import admin
from orchestrator.models import Claim
from orchestrator.outcomes import of_exit
from orchestrator.product import Product, open_product
from orchestrator.services import by_hand
from orchestrator.services.claim import advance
from orchestrator.services.conclude import conclude
from orchestrator.settings import load
from orchestrator.states import Event, State
from orchestrator.store import audit, tasks, workers
from orchestrator.store.backup import check
from orchestrator.store.database import Database
from orchestrator.store.migrate import HEAD
from orchestrator.store.tables import tasks as table
from tests.integration.store.given import now, registered, running, submitted

FIRST = "0001"
POSTGRES = "postgresql://sandbox:se%40cret@db.example/sandbox"


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.out))


Admin = Callable[..., Ran]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def product(data_dir: Path) -> Iterator[Product]:
    opened = open_product(load({}, data_dir=data_dir))
    yield opened
    opened.close()


@pytest.fixture
def store(data_dir: Path) -> Path:
    return data_dir / "store.db"


@pytest.fixture
def sandbox(data_dir: Path) -> Admin:
    def call(*args: str, **settings: str) -> Ran:
        env = {"SANDBOX_DATA_DIR": str(data_dir), **settings}
        with CliRunner().isolation(env=env) as (out, err, _):
            code = run(["admin", *args], make_root({"admin": Deferred("", lambda: admin)}))
            sys.stdout.flush()
            return Ran(code, out.getvalue().decode(), err.getvalue().decode())

    return call


def old_store(store: Path, version: str = FIRST) -> None:
    """A store as an older version of the product left it."""
    store.parent.mkdir(exist_ok=True)
    database = Database(f"sqlite:///{store}")
    config = Config()
    config.set_main_option("script_location", "orchestrator.store:migrations")
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection.execution_options(write=True)
        command.upgrade(config, version)
    database.close()


def ended(product: Product, task_id: str, days_ago: float) -> None:
    finished(product, running(product, task_id), days_ago)


def finished(product: Product, claim: Claim, days_ago: float) -> None:
    advance(product, claim, State.RUNNING, Event.ENDED, "ended")
    conclude(product, claim, of_exit(0, oom_killed=False))
    at = clock.now() - timedelta(days=days_ago)
    with product.database.write() as tx:
        tx.execute(table.update().where(table.c.id == claim.task_id).values(finished_at=at))


# --- migrate


def test_check_names_what_is_missing_and_changes_nothing(sandbox: Admin, store: Path) -> None:
    old_store(store)
    ran = sandbox("migrate", "--check")
    assert ran.code == 1
    assert ran.out.startswith("missing: 0002 ")
    assert "sandbox admin backup" in ran.out
    assert sandbox("migrate", "--check", "--format", "json").json["present"] == FIRST


def test_migrate_brings_an_old_store_to_the_newest_schema_and_says_what_it_did(sandbox: Admin, store: Path) -> None:
    old_store(store)
    ran = sandbox("migrate")
    assert ran.code == 0
    assert "migrated: 0002 " in ran.out
    assert f"has schema {HEAD} now; before: {FIRST}" in ran.out
    assert sandbox("migrate", "--check").code == 0
    again = sandbox("migrate", "--format", "json")
    assert (again.code, again.json) == (0, {"before": HEAD, "after": HEAD, "migrations": []})


def test_to_look_at_a_store_that_is_not_there_makes_none(sandbox: Admin, data_dir: Path) -> None:
    for args in (["migrate", "--check"], ["prune"], ["requeue", "--all"], ["backup", "x"]):
        ran = sandbox(*args)
        assert ran.code == 3
        assert "there is no store at" in ran.err
    assert not data_dir.exists()


def test_a_first_migrate_makes_the_store(sandbox: Admin, product: Product, data_dir: Path, tmp_path: Path) -> None:
    ran = sandbox("migrate", "--data-dir", str(tmp_path / "new"))
    assert ran.code == 0
    assert "before: no tables" in ran.out
    assert check(tmp_path / "new" / "store.db").schema == HEAD


def test_a_store_of_a_newer_version_is_refused_by_every_command(sandbox: Admin, store: Path, product: Product) -> None:
    with closing(sqlite3.connect(store)) as other:
        other.execute("UPDATE alembic_version SET version_num = '9999'")
        other.commit()
    for args in (["migrate"], ["migrate", "--check"], ["prune"], ["requeue", "--all"]):
        ran = sandbox(*args)
        assert ran.code == 4
        assert "start the newer version" in ran.err


def test_a_store_of_an_older_version_is_not_migrated_on_the_side(sandbox: Admin, store: Path) -> None:
    old_store(store)
    for args in (["prune"], ["requeue", "--all"]):
        ran = sandbox(*args)
        assert ran.code == 4
        assert "sandbox admin migrate" in ran.err
    assert sandbox("migrate", "--check").code == 1


# --- prune


def test_prune_removes_what_ended_long_ago_and_nothing_else(sandbox: Admin, product: Product) -> None:
    registered(product)
    ended(product, "old", 40)
    ended(product, "older", 400)
    ended(product, "young", 3)
    running(product, "busy")
    dry = sandbox("prune", "--dry-run")
    assert dry.code == 0
    assert dry.out.splitlines()[:2] == ["old", "older"]
    assert "tasks with all they left: 2 would be removed, 30 days after their end" in dry.out
    assert now(product, "old").is_terminal
    ran = sandbox("prune", "--format", "json")  # SANDBOX_RETENTION_DAYS is 30
    assert ran.json == {"tasks": ["old", "older"], "logs": [], "artifacts": [], "dry_run": False}
    with product.database.read() as tx:
        assert [tasks.get(tx, one) is None for one in ("old", "older", "young", "busy")] == [True, True, False, False]
    assert "tasks with all they left: 0 removed" in sandbox("prune").out
    assert sandbox("prune", "--older-than", "2d").out.startswith("young\n")
    assert now(product, "busy").state is State.RUNNING


def test_prune_removes_logs_and_artifacts_whose_time_is_over_before_their_task(
    sandbox: Admin, product: Product
) -> None:
    registered(product)
    claim = running(product, "said")
    with product.database.write() as tx:
        journal.append(tx, claim, [journal.output("stdout", b"hello", clock.now())])
    finished(product, claim, 10)
    shorter = {"SANDBOX_LOG_RETENTION_DAYS": "7", "SANDBOX_ARTIFACT_RETENTION_DAYS": "7"}
    assert sandbox("prune", "--dry-run", "--format", "json", **shorter).json["logs"] == ["said"]
    ran = sandbox("prune", **shorter)
    assert "logs: 1 removed, 7 days after their end" in ran.out
    assert "logs: 0 removed" in sandbox("prune", **shorter).out
    assert now(product, "said").state is State.COMPLETED


def test_prune_where_retention_is_off_removes_nothing_unless_an_age_is_given(sandbox: Admin, product: Product) -> None:
    registered(product)
    ended(product, "old", 4000)
    off = {"SANDBOX_RETENTION_DAYS": "0"}
    ran = sandbox("prune", **off)
    assert ran.code == 0
    assert "tasks with all they left: kept for ever" in ran.out
    assert now(product, "old").is_terminal
    assert sandbox("prune", "--older-than", "1d", **off).out.startswith("old\n")


@pytest.mark.parametrize("age", ["30", "d", "-1d", "1.5d", "0d", "99999d", "48h", "1w"])
def test_an_age_that_is_none_is_a_usage_error(sandbox: Admin, product: Product, age: str) -> None:
    assert sandbox("prune", "--older-than", age).code == 2


# --- requeue


def test_requeue_places_what_no_worker_has_begun_on_one_that_takes_it(sandbox: Admin, product: Product) -> None:
    registered(product)
    submitted(product, "waits")
    running(product, "begun")
    with product.database.write() as tx:
        workers.set_trouble(tx, "w", "it does not begin what it is given")
    registered(product, "b")
    assert now(product, "waits").worker == "w"
    ran = sandbox("requeue", "--all")
    assert ran.code == 0
    assert ran.out == "waits: placed on worker b; waits to be claimed\n1 taken back and placed again\n"
    assert (now(product, "begun").worker, now(product, "begun").state) == ("w", State.RUNNING)


def test_requeue_of_one_task_touches_no_other(sandbox: Admin, product: Product) -> None:
    registered(product)
    for task_id in ("one", "two"):
        submitted(product, task_id)
    with product.database.write() as tx:
        workers.set_trouble(tx, "w", "it does not begin what it is given")
    ran = sandbox("requeue", "one", "--format", "json")
    assert ran.json["taken_back"] == ["one"]
    assert "it does not begin" in ran.json["tasks"][0]["message"]
    assert (now(product, "one").worker, now(product, "two").worker) == (None, "w")


def test_a_task_that_is_begun_is_left_alone_and_said_to_be(sandbox: Admin, product: Product) -> None:
    registered(product)
    running(product, "begun")
    ran = sandbox("requeue", "begun")
    assert ran.code == 0
    assert "begun: running: a worker has begun it, so it was left alone" in ran.out
    assert now(product, "begun").state is State.RUNNING


def test_an_unknown_task_is_3_and_the_others_are_not_touched(sandbox: Admin, product: Product) -> None:
    registered(product)
    submitted(product, "one")
    with product.database.write() as tx:
        workers.set_trouble(tx, "w", "busy")
    ran = sandbox("requeue", "one", "nope")
    assert ran.code == 3
    assert "nope" in ran.err
    assert now(product, "one").worker == "w"


@pytest.mark.parametrize("args", [[], ["one", "--all"]])
def test_requeue_takes_tasks_or_all_of_them(sandbox: Admin, product: Product, args: list[str]) -> None:
    assert sandbox("requeue", *args).code == 2


# --- backup and restore


def test_a_backup_taken_under_load_is_one_moment_and_has_all_that_was_accepted_before(
    sandbox: Admin, product: Product, tmp_path: Path
) -> None:
    submitted(product, "before")
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            submitted(product)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        ran = sandbox("backup", str(tmp_path / "copy.db"), "--format", "json")
    finally:
        over.set()
        writer.join()
    assert ran.code == 0, ran.err
    made = check(tmp_path / "copy.db")
    assert made.tasks == ran.json["tasks"] >= 1
    assert [one.name for one in tmp_path.iterdir() if "copy" in one.name] == ["copy.db"]
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT count(*) FROM tasks WHERE id = 'before'").fetchone() == (1,)
        # each task came with its first record, in one transaction
        assert copy.execute("SELECT count(*) FROM records").fetchone() == (made.tasks,)


def test_a_backup_never_replaces_a_file(sandbox: Admin, product: Product, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_text("precious")
    ran = sandbox("backup", str(tmp_path / "copy.db"))
    assert ran.code == 2
    assert "give another name" in ran.err
    assert (tmp_path / "copy.db").read_text() == "precious"


def test_a_backup_that_fails_leaves_nothing(sandbox: Admin, product: Product, store: Path, tmp_path: Path) -> None:
    product.close()
    store.write_bytes(b"not a store at all" * 1000)
    ran = sandbox("backup", str(tmp_path / "copy.db"))
    assert ran.code == 70
    assert "cannot be backed up" in ran.err
    assert [one.name for one in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(("verb", "tool"), [("backup", "pg_dump"), ("restore", "pg_restore")])
def test_for_a_server_the_commands_name_its_own_tools_and_no_password(sandbox: Admin, verb: str, tool: str) -> None:
    ran = sandbox(verb, "copy.db", SANDBOX_STORE_URL=POSTGRES)
    assert ran.code == 2
    assert tool in ran.err
    assert "db.example" in ran.err
    assert "se%40cret" not in ran.err


def test_a_restore_brings_the_store_back_in_time_and_keeps_what_was_there(
    sandbox: Admin, product: Product, store: Path, tmp_path: Path
) -> None:
    submitted(product, "before")
    assert sandbox("backup", str(tmp_path / "copy.db")).code == 0
    submitted(product, "after")
    product.close()
    ran = sandbox("restore", str(tmp_path / "copy.db"), "--format", "json")
    assert ran.code == 0, ran.err
    again = open_product(product.settings)
    with again.database.read() as tx:
        assert [tasks.get(tx, one) is not None for one in ("before", "after")] == [True, False]
    submitted(again, "later")
    again.close()
    kept = Path(ran.json["kept"])
    assert kept.parent == store.parent
    assert check(kept).tasks == 2


def test_a_restore_while_a_process_has_the_store_open_is_refused_and_changes_nothing(
    sandbox: Admin, product: Product, store: Path, tmp_path: Path
) -> None:
    assert sandbox("backup", str(tmp_path / "copy.db")).code == 0
    submitted(product, "after")  # an idle connection stays in the pool
    ran = sandbox("restore", str(tmp_path / "copy.db"))
    assert ran.code == 4
    assert "stop every" in ran.err
    assert now(product, "after").state is State.PENDING
    assert not list(store.parent.glob("*before*"))


def test_a_restore_without_a_store_makes_it(sandbox: Admin, product: Product, data_dir: Path, tmp_path: Path) -> None:
    submitted(product, "before")
    assert sandbox("backup", str(tmp_path / "copy.db")).code == 0
    ran = sandbox("restore", str(tmp_path / "copy.db"), "--data-dir", str(tmp_path / "other" / "host"))
    assert ran.code == 0, ran.err
    assert "what was there before" not in ran.out
    assert check(tmp_path / "other" / "host" / "store.db").tasks == 1


def test_a_restore_replaces_a_damaged_store(sandbox: Admin, product: Product, store: Path, tmp_path: Path) -> None:
    submitted(product, "before")
    assert sandbox("backup", str(tmp_path / "copy.db")).code == 0
    product.close()
    store.write_bytes(b"overwritten by somebody" * 1000)
    assert sandbox("restore", str(tmp_path / "copy.db")).code == 0
    assert check(store).tasks == 1
    [kept] = store.parent.glob("store.db.before-*")
    assert kept.read_bytes().startswith(b"overwritten")


def test_a_file_that_is_no_good_backup_is_refused_and_the_store_is_what_it_was(
    sandbox: Admin, product: Product, store: Path, tmp_path: Path
) -> None:
    submitted(product, "mine")
    assert sandbox("backup", str(tmp_path / "good.db")).code == 0
    good = (tmp_path / "good.db").read_bytes()
    (tmp_path / "cut.db").write_bytes(good[: len(good) // 2])
    (tmp_path / "text.db").write_text("hello")
    with closing(sqlite3.connect(tmp_path / "foreign.db")) as foreign:
        foreign.execute("CREATE TABLE t (x)")
    (tmp_path / "newer.db").write_bytes(good)
    with closing(sqlite3.connect(tmp_path / "newer.db")) as newer:
        newer.execute("UPDATE alembic_version SET version_num = '9999'")
        newer.commit()
    product.close()
    before = store.read_bytes()
    for name in ("cut.db", "text.db", "foreign.db", "newer.db", "missing.db"):
        ran = sandbox("restore", str(tmp_path / name))
        assert ran.code == 4, name
        assert name in ran.err
    assert store.read_bytes() == before


def test_a_backup_of_an_older_version_is_restored_and_migrated_by_the_next_start(
    sandbox: Admin, store: Path, tmp_path: Path, data_dir: Path
) -> None:
    old_store(store)
    assert sandbox("backup", str(tmp_path / "old.db")).code == 0
    assert sandbox("migrate").code == 0
    assert "who restored it is not kept" in sandbox("restore", str(tmp_path / "old.db")).out
    assert check(store).schema == FIRST
    open_product(load({}, data_dir=data_dir)).close()
    assert check(store).schema == HEAD


# --- who did it


def test_what_an_operator_changes_is_in_the_audit_trail(sandbox: Admin, product: Product, tmp_path: Path) -> None:
    registered(product)
    submitted(product, "one")
    sandbox("requeue", "one")
    sandbox("prune", "--dry-run")
    sandbox("prune", "--older-than", "7d", SANDBOX_LOG_RETENTION_DAYS="3", SANDBOX_ARTIFACT_RETENTION_DAYS="3")
    copy = tmp_path / "copy.db"
    assert sandbox("backup", str(copy)).code == 0
    product.close()
    assert sandbox("restore", str(copy)).code == 0
    with product.database.read() as tx:
        found = audit.find(tx)
    assert [(one.action, one.subject, one.status) for one in found] == [
        ("task.requeue", "one", 200),
        ("store.prune", "tasks after 7 days, logs after 3 days, artifacts after 3 days", 200),
        ("store.restore", str(copy), 200),
    ]
    assert {one.remote for one in found} == {by_hand.here()}


# --- settings


def test_the_settings_in_force_are_printed_without_secrets(sandbox: Admin) -> None:
    redis = "redis://:hunter2/@h:1/0?password=hunter3"
    ran = sandbox("settings", SANDBOX_STORE_URL=POSTGRES, SANDBOX_BROKER_URL=redis, SANDBOX_CONCURRENCY="7")
    assert ran.code == 0
    assert "postgresql://sandbox:…@db.example/sandbox" in ran.out
    assert not {"se%40cret", "hunter2", "hunter3"} & set(ran.out.replace("@", " ").replace("=", " ").split())
    assert "hunter" not in ran.out
    assert sandbox("settings", "--format", "json", SANDBOX_CONCURRENCY="7").json["concurrency"] == 7


def test_settings_that_are_not_usable_are_refused_with_all_errors(sandbox: Admin) -> None:
    ran = sandbox("settings", SANDBOX_CONCURRENCY="many", SANDBOX_PORT="0")
    assert ran.code == 2
    assert "SANDBOX_CONCURRENCY" in ran.err
    assert "SANDBOX_PORT" in ran.err
