"""`sandbox admin audit`: who changed what."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import click

from orchestrator import clock
from orchestrator.commands.report import Report, admin_command, existing_product
from orchestrator.quantities import duration_seconds
from orchestrator.settings import Settings
from orchestrator.store.audit import Entry, find


def moment(text: str) -> datetime:
    """Return the instant that a time or an age names; raise `BadParameter` for anything else."""
    try:
        if text.endswith("d") and text[:-1].isascii() and text[:-1].isdigit() and len(text) < 7:
            return datetime.now(UTC) - timedelta(days=int(text[:-1]))
        if text[-1:] in {"s", "m", "h"}:
            return datetime.now(UTC) - timedelta(seconds=duration_seconds(text))
        return clock.parse(text)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is no time: write 2026-01-29T10:15:00Z, or an age such as 90m or 7d"
        ) from None


@click.command()
@click.option("--since", type=moment, metavar="TIME", help="A time such as 2026-01-29T10:15:00Z, or an age: 90m, 7d.")
@click.option("--owner", help="Only what tokens of this owner did.")
@click.option("--action", help="Only this, for example task.cancel.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=1000, show_default=True, help="The newest so many.")
@admin_command
def audit(in_force: Settings, *, since: datetime | None, owner: str | None, action: str | None, limit: int) -> Report:
    """Show who changed what, from where, and what the API answered, oldest first.

    Kept for SANDBOX_RETENTION_DAYS. What the store could not take is in the API's log (`audit entry not stored`), as
    are requests that were refused for want of a token.
    """
    with existing_product(in_force) as product, product.database.read() as tx:
        found = find(tx, since=since, owner=owner, action=action, limit=limit)
    shown = [{**asdict(one), "at": clock.text(one.at)} for one in found]
    return Report([_line(one) for one in found] or ["nothing"], {"entries": shown})


def _line(one: Entry) -> str:
    who = f" by {one.owner} (token {one.token})" if one.token else ""
    what = f"{one.action} {one.subject or '-'}"
    return f"{clock.text(one.at)}  {one.status}  {what}{who} from {one.remote}, request {one.request_id}"
