"""`sandbox admin backup` and `restore`: the store of one machine. A server's store has better tools of its own."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import click
import sqlalchemy as sa

from orchestrator import clock
from orchestrator.cli import CommandFailed
from orchestrator.commands.report import (
    EXIT_REFUSED,
    EXIT_USAGE,
    Report,
    admin_command,
    existing_store,
    opened,
    store_name,
)
from orchestrator.services import by_hand
from orchestrator.settings import Settings
from orchestrator.store import tables
from orchestrator.store.backup import BadBackup, Copy, StoreInUse, back_up
from orchestrator.store.backup import restore as bring_back
from orchestrator.store.location import sqlite_file

FILE = click.Path(path_type=Path, dir_okay=False, resolve_path=True)


@click.command()
@click.argument("file", type=FILE)
@admin_command
def backup(in_force: Settings, file: Path) -> Report:
    """Copy the store to FILE, which must not exist, while the product runs.

    The copy is one consistent moment and is checked before it gets its name. Artifacts lie elsewhere: copy them
    after the store (docs/backup.md). With PostgreSQL use pg_dump; the command says how.
    """
    store = _file_store(in_force, f"pg_dump --format=custom --file={file} --dbname=")
    with existing_store(in_force):
        pass
    try:
        made = back_up(store, file)
    except FileExistsError as error:
        raise CommandFailed(str(error), EXIT_USAGE) from error
    except (BadBackup, sqlite3.Error) as error:
        raise CommandFailed(f"{store} cannot be backed up: {error}. Nothing was left at {file}.") from error
    return Report(
        [
            f"{_told(made)}; checked",
            f"artifacts are not in it: now copy {in_force.artifacts_url} too (docs/backup.md)",
        ],
        _data(made),
    )


@click.command()
@click.argument("file", type=FILE)
@admin_command
def restore(in_force: Settings, file: Path) -> Report:
    """Bring the store back from FILE. Every `sandbox up`, `api` and `worker` on it must be stopped.

    What was there before is kept beside it. The store goes back in time: read docs/backup.md for what that means
    for tasks that run or were accepted since.
    """
    store = _file_store(in_force, f"pg_restore --clean --if-exists --dbname=… {file} # …: ")
    try:
        made, kept = bring_back(file, store, clock.now())
    except (BadBackup, StoreInUse) as error:
        raise CommandFailed(str(error), EXIT_REFUSED) from error
    except sqlite3.Error as error:
        raise CommandFailed(f"{store} cannot be restored: {error}. It is what it was before.") from error
    lines = [f"{_told(made)}; from {file}"]
    if not _is_noted(in_force, file):
        lines.append("this store is older than the audit trail: who restored it is not kept")
    if kept:
        lines.append(f"what was there before is at {kept}; delete it when all is well")
    lines.append("bring the artifacts of that time back too, then start the product (docs/backup.md)")
    return Report(lines, {**_data(made), "kept": str(kept) if kept else None})


def _file_store(in_force: Settings, advice: str) -> Path:
    """The store's file. Raises `CommandFailed` for a server, whose own tools know its version, roles and archives."""
    found = sqlite_file(in_force.store_url)
    if found is None:
        raise CommandFailed(
            "this store is a PostgreSQL server, whose own tools also know its version, roles and archives: use\n"
            f"  {advice}{store_name(in_force)}\n(with the password in PGPASSFILE); docs/backup.md has the rest.",
            EXIT_USAGE,
        )
    return found


def _is_noted(in_force: Settings, file: Path) -> bool:
    """Keep in the restored store who restored it; False where it has no audit trail yet."""
    with closing(opened(in_force)) as database, database.write() as tx:
        if not sa.inspect(tx).has_table(tables.audit.name):
            return False
        by_hand.note(tx, "store.restore", [str(file)], clock.now())
    return True


def _told(copy: Copy) -> str:
    return f"{copy.path}: {copy.tasks} tasks, schema {copy.schema}, {copy.size_bytes} bytes"


def _data(copy: Copy) -> dict[str, object]:
    return {
        "file": str(copy.path),
        "installation": copy.installation,
        "schema": copy.schema,
        "tasks": copy.tasks,
        "size_bytes": copy.size_bytes,
    }
