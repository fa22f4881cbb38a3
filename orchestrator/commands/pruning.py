"""`sandbox admin prune`: retention, now."""

from __future__ import annotations

import re
from dataclasses import replace

import click

from orchestrator import clock
from orchestrator.commands.report import Report, admin_command, existing_product
from orchestrator.services.prune import Pruned, due
from orchestrator.services.prune import prune as remove_now
from orchestrator.settings import MAX_RETENTION_DAYS, Settings


def days(text: str) -> int:
    """Return the days that `<n>d` names; raise `BadParameter` for anything else."""
    found = re.fullmatch(r"([0-9]{1,5})d", text, re.ASCII)
    if found is None or not 1 <= int(found[1]) <= MAX_RETENTION_DAYS:
        raise click.BadParameter(f"{text!r} is no age from 1d to {MAX_RETENTION_DAYS}d; write for example 30d")
    return int(found[1])


@click.command()
@click.option("--older-than", type=days, metavar="DAYS", help="Instead of SANDBOX_RETENTION_DAYS, for example 30d.")
@click.option("--dry-run", is_flag=True, help="Say which tasks; remove nothing.")
@admin_command
def prune(in_force: Settings, *, older_than: int | None, dry_run: bool) -> Report:
    """Do now what retention does in the background: remove ended tasks, logs and artifacts whose time is over.

    A task goes with all it left, SANDBOX_RETENTION_DAYS after its end; logs and artifacts may go before
    (SANDBOX_LOG_RETENTION_DAYS, SANDBOX_ARTIFACT_RETENTION_DAYS). One whose preserved sandbox is still on a host
    loses its data, and goes when the host has removed that.
    """
    wanted = in_force if older_than is None else replace(in_force, retention_days=older_than)
    with existing_product(wanted) as product:
        found = due(product, clock.now()) if dry_run else remove_now(product, clock.now())
    data = {"tasks": sorted(found.tasks), "logs": sorted(found.logs), "artifacts": sorted(found.artifacts)}
    return Report([*data["tasks"], *_told(wanted, found, dry_run=dry_run)], {**data, "dry_run": dry_run})


def _told(settings: Settings, found: Pruned, *, dry_run: bool) -> list[str]:
    verb = "would be removed" if dry_run else "removed"
    kinds = (
        ("tasks with all they left", settings.retention_days, found.tasks),
        ("logs", settings.log_retention_days, found.logs),
        ("artifacts of tasks", settings.artifact_retention_days, found.artifacts),
    )
    return [
        f"{what}: {len(ids)} {verb}, {age} days after their end" if age else f"{what}: kept for ever (0 days)"
        for what, age, ids in kinds
    ]
