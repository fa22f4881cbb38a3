"""`sandbox admin migrate`: the store's schema."""

from __future__ import annotations

from contextlib import closing

import click

from orchestrator.commands.report import Report, admin_command, existing_store, opened, store_name
from orchestrator.settings import Settings
from orchestrator.store import migrate as schema

EXIT_MISSING = 1


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 when a migration is missing.")
@admin_command
def migrate(in_force: Settings, *, check: bool) -> Report:
    """Bring the store to the schema of this version, one process at a time.

    Every process does it at its start; this command does it before the first one does. Processes of the version
    before go on working on the new schema, but do not start on it again.
    """
    if check:
        with existing_store(in_force) as database:
            return _checked(in_force, schema.version_of(database), schema.missing(database))
    in_force.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with closing(opened(in_force)) as database:
        before, run = schema.version_of(database), schema.missing(database)
        schema.migrate(database)
    data = {"before": before, "after": schema.HEAD, "migrations": run}
    if not run:
        return Report([f"{store_name(in_force)} has schema {schema.HEAD} already"], data)
    done = f"{store_name(in_force)} has schema {schema.HEAD} now; before: {before or 'no tables'}"
    return Report([*(f"migrated: {one}" for one in run), done], data)


def _checked(in_force: Settings, present: str | None, missing: list[str]) -> Report:
    data = {"present": present, "wanted": schema.HEAD, "missing": missing}
    if not missing:
        return Report([f"{store_name(in_force)} has schema {schema.HEAD}: nothing is missing"], data)
    advice = "back the store up (`sandbox admin backup FILE`), then run `sandbox admin migrate`"
    return Report([*(f"missing: {one}" for one in missing), advice], data, EXIT_MISSING)
