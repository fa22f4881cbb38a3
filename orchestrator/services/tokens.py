"""Make, revoke and recognise access tokens. The operator's work, on the store itself: there may be no token yet."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime

import sqlalchemy as sa

from orchestrator import access, clock
from orchestrator.access import Credentials, Scope, Token
from orchestrator.services import by_hand
from orchestrator.settings import Settings
from orchestrator.store import tables, tokens
from orchestrator.store.database import Database
from orchestrator.store.location import sqlite_file

log = logging.getLogger(__name__)


class UnknownToken(Exception):
    """There is no token of this id."""

    exit_code = 3

    def __init__(self, token_id: str) -> None:
        super().__init__(f"no access token has the id {token_id!r}; `sandbox token list` shows those there are")


class NoToken(Exception):
    """The API would be open to more than this machine."""

    exit_code = 2

    def __init__(self, host: str) -> None:
        super().__init__(
            f"the API is to listen on {host}, which is not a loopback address, and there is no access token: anybody "
            "who reaches it could run code here. Make the first one with the same settings, `sandbox token create "
            "NAME --owner YOU --scope admin`, and start again; or set SANDBOX_ALLOW_OPEN=1 on a trusted network"
        )


def create(
    database: Database,
    *,
    name: str,
    owner: str,
    scopes: Iterable[Scope],
    expires_at: datetime | None = None,
    requests_per_minute: int | None = None,
) -> tuple[Token, str]:
    """Store a new token; return it and its text, which nobody can be told again.

    Raises `ValueError` for a name, an owner or an expiry that is none, `StoreUnavailable`.
    """
    at = clock.now()
    if not access.NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name for a token: letters, digits, space and ._@- only, at most 100")
    if not access.OWNER.fullmatch(owner):
        raise ValueError(f"{owner!r} is no owner: small letters, digits and ._- only, at most 64")
    if expires_at is not None and expires_at <= at:
        raise ValueError(f"the token would have expired at {clock.text(expires_at)} already")
    text, credentials = access.generate()
    token = Token(
        id=credentials.token_id,
        name=name,
        owner=owner,
        scopes=tuple(sorted({scope.value for scope in scopes})),
        secret_sha256=credentials.secret_sha256,
        created_at=at,
        requests_per_minute=requests_per_minute,
        expires_at=expires_at,
    )
    with database.write() as tx:
        tokens.insert(tx, token)
        by_hand.note(tx, "token.create", [token.id], at)
    log.info("token created", extra={"token": token.id, "owner": owner})
    return token, text


def revoke(database: Database, token_id: str) -> Token:
    """Make a token worthless, at once and in every API process. Idempotent. Raises `UnknownToken`."""
    at = clock.now()
    with database.write() as tx:
        token = tokens.get(tx, token_id)
        if token is None:
            raise UnknownToken(token_id)
        if token.revoked_at is None:
            tokens.revoke(tx, token_id, at)
            by_hand.note(tx, "token.revoke", [token.id], at)
        found = tokens.get(tx, token_id)
    log.info("token revoked", extra={"token": token_id})
    return found or token


def recognise(database: Database, given: Credentials) -> Token | None:
    """The token that fits and is neither revoked nor expired; else None. Raises `StoreUnavailable`."""
    with database.read() as tx:
        token = tokens.get(tx, given.token_id)
    if not given.fit(token) or token is None:
        return None
    return token if token.state(clock.now()) == "active" else None


def check_host(settings: Settings) -> None:
    """Raise `NoToken` when more than this machine would reach an API without tokens, unless the operator allows it.

    Changes nothing: there may be no store yet, or one without our tables.
    """
    if settings.is_local or settings.allow_open:
        return
    file = sqlite_file(settings.store_url)
    if file is not None and not file.exists():
        raise NoToken(settings.host)
    with closing(Database(settings.store_url)) as database, database.read() as tx:
        if not sa.inspect(tx).has_table(tables.tokens.name) or not tokens.any_exists(tx):
            raise NoToken(settings.host)
