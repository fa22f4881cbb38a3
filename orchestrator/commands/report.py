"""What the admin commands share: their options, how they print, the parts they open."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from orchestrator import settings
from orchestrator.artifacts import open_artifact_store
from orchestrator.broker.messages import open_broker
from orchestrator.cli import CommandFailed
from orchestrator.product import Product
from orchestrator.settings import Settings
from orchestrator.settings_report import without_secrets
from orchestrator.store.database import Database
from orchestrator.store.location import sqlite_file
from orchestrator.store.migrate import missing

EXIT_USAGE = 2
EXIT_NOT_FOUND = 3
EXIT_REFUSED = 4

Command = Callable[..., "Report"]


@dataclass(frozen=True, slots=True)
class Report:
    """What a command did: `lines` for people, `data` for programs."""

    lines: list[str]
    data: dict[str, Any] = field(default_factory=dict)
    exit_code: int = 0


def admin_command(function: Command) -> Callable[..., None]:
    """Add `--data-dir` and `--format`; the command receives the `Settings` in force first, and returns a `Report`."""

    @click.option("--data-dir", type=click.Path(path_type=Path), help="Data directory (SANDBOX_DATA_DIR).")
    @click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
    @functools.wraps(function)
    def command(*args: Any, data_dir: Path | None, form: str, **options: Any) -> None:
        in_force = settings.load(data_dir=data_dir)
        report = function(in_force, *args, **options)
        click.echo(json.dumps(report.data, indent=2) if form == "json" else "\n".join(report.lines))
        click.get_current_context().exit(report.exit_code)

    return command


@contextmanager
def existing_store(in_force: Settings) -> Iterator[Database]:
    """The store as it is, not migrated. Raises `CommandFailed` when there is none: looking must make none."""
    file = sqlite_file(in_force.store_url)
    if file is not None and not file.exists():
        raise CommandFailed(
            f"there is no store at {file}: check --data-dir and SANDBOX_STORE_URL; the first start of the product "
            "makes one",
            EXIT_NOT_FOUND,
        )
    database = opened(in_force)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def existing_product(in_force: Settings) -> Iterator[Product]:
    """Store, broker and artifact storage, where the store has this version's schema; else `CommandFailed`."""
    with existing_store(in_force) as database:
        if missing(database):
            raise CommandFailed(
                f"{store_name(in_force)} has the schema of an older version: run `sandbox admin migrate` first",
                EXIT_REFUSED,
            )
        try:
            broker, artifacts = open_broker(in_force.broker_url), open_artifact_store(in_force.artifacts_url)
        except ValueError as error:
            raise CommandFailed(str(error), EXIT_USAGE) from error
        with closing(broker):
            yield Product(in_force, database, broker, artifacts)


def opened(in_force: Settings) -> Database:
    """The store, made if it is a file that is not there. Raises `CommandFailed` for a URL that names none of ours."""
    try:
        return Database(in_force.store_url)
    except ValueError as error:
        raise CommandFailed(str(error), EXIT_USAGE) from error


def store_name(in_force: Settings) -> str:
    """The store's URL, to be shown."""
    return str(without_secrets(in_force.store_url))
