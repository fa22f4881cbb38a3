"""Access tokens for tests: made in the store, sent as a header."""

from __future__ import annotations

from typing import Any

from orchestrator.access import USUAL, Scope
from orchestrator.product import Product
from orchestrator.services import tokens

Headers = dict[str, str]


def bearer(text: str) -> Headers:
    return {"Authorization": f"Bearer {text}"}


def make(product: Product, owner: str = "alice", *scopes: Scope, **fields: Any) -> tuple[str, Headers]:
    """A token's id and the header that carries it; without scopes the usual ones."""
    token, text = tokens.create(product.database, name=f"{owner}s", owner=owner, scopes=scopes or USUAL, **fields)
    return token.id, bearer(text)


def headers_of(product: Product, owner: str = "alice", *scopes: Scope, **fields: Any) -> Headers:
    return make(product, owner, *scopes, **fields)[1]
