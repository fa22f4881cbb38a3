"""Access tokens in the store. Rows are never deleted: one that was made keeps the API closed, revoked or not."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from orchestrator.access import Token
from orchestrator.store.tables import tokens


def insert(tx: sa.Connection, token: Token) -> None:
    tx.execute(
        tokens.insert().values(
            id=token.id,
            name=token.name,
            owner=token.owner,
            scopes=list(token.scopes),
            secret_sha256=token.secret_sha256,
            requests_per_minute=token.requests_per_minute,
            created_at=token.created_at,
            expires_at=token.expires_at,
        )
    )


def get(tx: sa.Connection, token_id: str) -> Token | None:
    row = tx.execute(tokens.select().where(tokens.c.id == token_id)).mappings().first()
    return _token(row) if row else None


def all_of(tx: sa.Connection) -> list[Token]:
    """Every token there ever was, oldest first."""
    return [_token(row) for row in tx.execute(tokens.select().order_by(tokens.c.created_at, tokens.c.id)).mappings()]


def any_exists(tx: sa.Connection) -> bool:
    """True once a token was made: from then on the API takes nobody without one."""
    return tx.scalar(sa.select(tokens.c.id).limit(1)) is not None


def revoke(tx: sa.Connection, token_id: str, at: datetime) -> None:
    """Mark a token as revoked; the first time stays."""
    tx.execute(tokens.update().where(tokens.c.id == token_id, tokens.c.revoked_at.is_(None)).values(revoked_at=at))


def _token(row: sa.RowMapping) -> Token:
    return Token(**{**row, "scopes": tuple(row["scopes"])})
