"""`sandbox token`: make, list and revoke access tokens, on the store itself. So it needs the operator's settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from typing import Any

import click

from orchestrator import access, clock
from orchestrator.access import USUAL, Scope, Token
from orchestrator.commands.pruning import days
from orchestrator.commands.report import Report, admin_command, existing_product, opened
from orchestrator.services import tokens as service
from orchestrator.settings import Settings
from orchestrator.store import tokens
from orchestrator.store.database import Database
from orchestrator.store.migrate import migrate

COLUMNS = ("id", "state", "owner", "name", "scopes", "limit", "expires")
SCOPES = click.Choice([scope.value for scope in Scope])


@click.group()
def token() -> None:
    """Make, list and revoke access tokens. Works on the store itself, as its operator, so run it with the settings of
    the other processes (SANDBOX_STORE_URL, SANDBOX_DATA_DIR, …).

    The first token closes the API: from then on it takes requests with a token only, on loopback too.
    """


@token.command()
@click.argument("name")
@click.option("--owner", required=True, help="Whose tasks it makes and reaches: small letters, digits and ._-")
@click.option(
    "--scope", "scopes", type=SCOPES, multiple=True, metavar="SCOPE",
    help=f"Repeatable: {', '.join(Scope)}. Without it: {', '.join(USUAL)}.",
)  # fmt: skip
@click.option("--expires-in", type=days, metavar="DAYS", help="For example 90d; without it, it does not expire.")
@click.option(
    "--rate-limit", type=click.IntRange(0, 1_000_000), metavar="N",
    help="Requests a minute, instead of SANDBOX_RATE_LIMIT_PER_MINUTE; 0: any number.",
)  # fmt: skip
@admin_command
def create(
    in_force: Settings,
    name: str,
    owner: str,
    scopes: Sequence[str],
    *,
    expires_in: int | None,
    rate_limit: int | None,
) -> Report:
    """Make an access token called NAME, and print it: it can be shown this once only.

    The token alone is on stdout, what is said about it on stderr.
    """
    if not access.NAME.fullmatch(name) or not access.OWNER.fullmatch(owner):
        raise click.UsageError(
            "a name takes letters, digits, space and ._@- (at most 100), an owner small letters, digits and ._- "
            "(at most 64); both begin with a letter or a digit"
        )
    with _store(in_force) as database:
        with database.read() as tx:
            first = not tokens.any_exists(tx)
        made, text = service.create(
            database,
            name=name,
            owner=owner,
            scopes=map(Scope, scopes or USUAL),
            expires_at=clock.now() + timedelta(days=expires_in) if expires_in else None,
            requests_per_minute=rate_limit,
        )
    until = f", until {clock.text(made.expires_at)}" if made.expires_at else ""
    click.echo(f"token {made.id} of {owner} for {', '.join(made.scopes)}{until}; it is shown this once", err=True)
    if first:
        click.echo("from now on the API takes requests with a token only", err=True)
    return Report([text], {**_shown(made, clock.now()), "token": text})


@token.command("list")
@admin_command
def list_tokens(in_force: Settings) -> Report:
    """List the access tokens there ever were, without their secrets."""
    at = clock.now()
    with existing_product(in_force) as product, product.database.read() as tx:
        found = tokens.all_of(tx)
    rows = [COLUMNS, *(_row(one, at) for one in found)]
    widths = [max(len(row[number]) for row in rows) for number in range(len(COLUMNS))]
    lines = ["  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return Report(lines if found else ["no access tokens yet"], {"tokens": [_shown(one, at) for one in found]})


@token.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@admin_command
def revoke(in_force: Settings, ids: Sequence[str]) -> Report:
    """Make the tokens of these IDs worthless, at once.

    An ID is the part of a token between its underscores. The API stays closed, also when it was the last one.
    """
    with existing_product(in_force) as product:
        done = [service.revoke(product.database, one) for one in ids]
    lines = [f"{one.id} ({one.name} of {one.owner}) is revoked" for one in done]
    return Report(lines, {"tokens": [_shown(one, clock.now()) for one in done]})


@contextmanager
def _store(in_force: Settings) -> Iterator[Database]:
    """The store, made when it is not there: the first token comes before the first start."""
    in_force.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with closing(opened(in_force)) as database:
        migrate(database)
        yield database


def _row(one: Token, at: datetime) -> tuple[str, ...]:
    limit = "-" if one.requests_per_minute is None else str(one.requests_per_minute or "none")
    expires = clock.text(one.expires_at)[:10] if one.expires_at else "-"
    return (one.id, one.state(at), one.owner, one.name, ",".join(one.scopes), limit, expires)


def _shown(one: Token, at: datetime) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "owner": one.owner,
        "scopes": list(one.scopes),
        "state": one.state(at),
        "requests_per_minute": one.requests_per_minute,
        "created_at": clock.text(one.created_at),
        "expires_at": clock.text(one.expires_at) if one.expires_at else None,
        "revoked_at": clock.text(one.revoked_at) if one.revoked_at else None,
    }
