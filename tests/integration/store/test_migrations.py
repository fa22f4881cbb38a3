"""From an empty store to the schema of this version, on both databases."""

from __future__ import annotations

from contextlib import ExitStack
from importlib import resources

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from orchestrator.product import open_product
from orchestrator.settings import load
from orchestrator.store.database import Database
from orchestrator.store.migrate import HEAD, StoreTooNew, migrate
from orchestrator.store.tables import metadata
from tests.integration.store.processes import program


def version(database: Database) -> str | None:
    with database.read() as tx:
        found: str | None = tx.scalar(sa.text("SELECT version_num FROM alembic_version"))
        return found


def test_the_newest_migration_is_the_one_that_is_compared_with() -> None:
    scripts = ScriptDirectory(str(resources.files("orchestrator.store") / "migrations"))
    assert scripts.get_heads() == [HEAD]


def test_an_empty_store_is_brought_to_the_newest_schema(empty_url: str) -> None:
    database = Database(empty_url)
    migrate(database)
    assert version(database) == HEAD
    with database.read() as tx:
        assert set(metadata.tables) <= set(sa.inspect(tx).get_table_names())
    database.close()


def test_the_migrations_build_exactly_the_tables_of_the_code(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, metadata)
    if database.is_sqlite:  # whose descending index columns Alembic cannot read back
        unreadable = {"tasks_waiting", "tasks_waiting_alike"}
        differences = [one for one in differences if getattr(one[1], "name", None) not in unreadable]
    assert differences == []


def test_a_second_migration_changes_nothing(database: Database) -> None:
    before = database.installation_id()
    migrate(database)
    assert (version(database), database.installation_id()) == (HEAD, before)


def test_processes_that_start_at_once_on_an_empty_store_agree(empty_url: str) -> None:
    with ExitStack() as stack:
        starting = [stack.enter_context(program("migrate_store", empty_url)) for _ in range(4)]
        assert [one.hear() for one in starting] == ["ready"] * 4
        for one in starting:
            one.say()
        installations = [one.hear() for one in starting]
    assert len(set(installations)) == 1
    assert len(installations[0]) == 12
    database = Database(empty_url)
    with database.read() as tx:
        assert tx.scalar(sa.text("SELECT count(*) FROM installation")) == 1
    database.close()


def test_a_store_of_a_newer_version_is_refused_and_left_alone(empty_url: str) -> None:
    database = Database(empty_url)
    migrate(database)
    with database.write() as tx:
        tx.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreTooNew, match=f"schema 9999, this version knows {HEAD}"):
        migrate(database)
    assert version(database) == "9999"
    database.close()


def test_a_product_is_opened_from_settings_alone(empty_url: str, tmp_path: object) -> None:
    settings = load({"SANDBOX_DATA_DIR": f"{tmp_path}/data", "SANDBOX_STORE_URL": empty_url})
    product = open_product(settings)
    assert version(product.database) == HEAD
    product.artifacts.ping()
    product.close()


@pytest.mark.parametrize(
    "url", ["mysql://u:secret@host/db", "sqlite://", "sqlite:///:memory:", "store.db", "", "postgresqlx://host/db"]
)
def test_the_url_of_another_kind_of_store_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"names no store of ours: use sqlite") as caught:
        Database(url)
    assert "secret" not in str(caught.value)
