"""Bring a store to the schema of this version."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import sqlalchemy as sa

from orchestrator.store.database import Database
from orchestrator.store.tables import horizons, installation, records

HEAD = "0005"
"""The newest migration. Compared before Alembic is imported: it costs 10 MB in every process."""
_SCRIPTS = resources.files("orchestrator.store") / "migrations"
_LOCK_KEY = 0x5A4DB0C5


class StoreTooNew(Exception):
    """The store was written by a newer version of the product; start that version."""

    exit_code = 4


def migrate(database: Database) -> None:
    """Run the missing migrations, one process at a time. Raises `StoreTooNew`, `StoreUnavailable`."""
    database.ping()
    if version_of(database) == HEAD:
        _follow_transactions(database)
        return
    with _one_at_a_time(database):
        version = version_of(database)
        if version == HEAD:
            return
        _check_age(version)
        _upgrade(database)


def _follow_transactions(database: Database) -> None:
    """A restored store may lie in a younger server, whose transaction numbers begin anew: count on from ours.

    `journal.all_after` orders by them, and every reader's place holds one.
    """
    if database.is_sqlite:
        return
    database.installation_id()  # whose row holds the base
    now = sa.cast(sa.cast(sa.func.pg_current_xact_id(), sa.String), sa.BigInteger)
    with database.write() as tx:
        # What the newest records told may be remembered longer than the records themselves.
        numbers = (records.c.transaction_id, horizons.c.transaction_id, installation.c.told_transaction_id)
        last = max(tx.scalar(sa.select(sa.func.max(one))) or 0 for one in numbers)
        tx.execute(
            installation.update()
            .where(installation.c.transaction_base + now <= last)
            .values(transaction_base=sa.literal(last, sa.BigInteger) - now + 1)
        )


def missing(database: Database) -> list[str]:
    """What `migrate` would run, oldest first: number and subject. Raises `StoreTooNew`, `StoreUnavailable`."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - see HEAD

    version = version_of(database)
    if version == HEAD:
        return []
    _check_age(version)
    found = ScriptDirectory(str(_SCRIPTS)).iterate_revisions("head", version or "base")
    return [f"{one.revision} {one.doc}" for one in found][::-1]


def _check_age(version: str | None) -> None:
    if version is not None and version > HEAD:
        raise StoreTooNew(f"the store has schema {version}, this version knows {HEAD}: start the newer version")


def _upgrade(database: Database) -> None:
    from alembic import command  # noqa: PLC0415 - see HEAD
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection.execution_options(write=True)
        command.upgrade(config, "head")


def version_of(database: Database) -> str | None:
    """The newest migration the store has seen; None for a store without tables. Raises `StoreUnavailable`."""
    with database.read() as tx:
        if not sa.inspect(tx).has_table("alembic_version"):
            return None
        found: str | None = tx.scalar(sa.text("SELECT version_num FROM alembic_version"))
        return found


@contextmanager
def _one_at_a_time(database: Database) -> Iterator[None]:
    if database.is_sqlite:
        lock = os.open(Path(str(database.url.database)).with_suffix(".migrate.lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
        return
    with database.session() as connection:
        connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK_KEY})
        try:
            yield
        finally:
            connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK_KEY})
