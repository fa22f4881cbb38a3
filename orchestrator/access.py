"""Who may do what: scopes, access tokens, and the caller of one request (pure)."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

OWNER = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,99}", re.ASCII)
_TEXT = re.compile(r"sbx_([0-9a-f]{12})_([0-9a-f]{64})", re.ASCII)


class Scope(StrEnum):
    """What a token allows. Without `:all`, only on its owner's tasks; `admin` is everything."""

    TASK_CREATE = "task:create"
    TASK_READ = "task:read"
    TASK_READ_ALL = "task:read:all"
    TASK_CANCEL = "task:cancel"
    TASK_CANCEL_ALL = "task:cancel:all"
    TASK_ARTIFACTS = "task:artifacts"
    TASK_ARTIFACTS_ALL = "task:artifacts:all"
    WORKER_READ = "worker:read"
    WORKER_WRITE = "worker:write"
    ADMIN = "admin"


USUAL = (Scope.TASK_CREATE, Scope.TASK_READ, Scope.TASK_CANCEL, Scope.TASK_ARTIFACTS)
"""What somebody needs who submits tasks and looks after them."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request. Without a token (the API is open) nobody in particular, who may do everything."""

    owner: str | None
    scopes: frozenset[str]
    token_id: str | None = None
    token_name: str | None = None

    def may(self, scope: Scope) -> bool:
        """True when a scope of the caller is this one, the same for everybody's tasks, or `admin`."""
        return not self.scopes.isdisjoint({scope.value, f"{scope.value}:all", Scope.ADMIN.value})

    def reach(self, scope: Scope) -> str | None:
        """The owner whose tasks the caller may touch in this way; None: everybody's."""
        if self.owner is None or not self.scopes.isdisjoint({f"{scope.value}:all", Scope.ADMIN.value}):
            return None
        return self.owner


ANYBODY = Caller(None, frozenset({Scope.ADMIN.value}))
"""Who asks an open API, and the product itself."""


@dataclass(frozen=True, slots=True)
class Token:
    """An access token as it is stored: its secret only as a digest."""

    id: str
    name: str
    owner: str
    scopes: tuple[str, ...]
    secret_sha256: str = field(repr=False)
    created_at: datetime
    requests_per_minute: int | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def state(self, at: datetime) -> str:
        """`active`, `revoked` or `expired`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= at else "active"

    @property
    def caller(self) -> Caller:
        return Caller(self.owner, frozenset(self.scopes), self.id, self.name)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a token's text holds: its id, which is no secret, and the digest of its secret."""

    token_id: str
    secret_sha256: str

    def fit(self, token: Token | None) -> bool:
        """True when the secret is the token's. Takes as long for a token that does not exist (attack H2)."""
        stored = token.secret_sha256 if token else _NOBODYS
        same = hmac.compare_digest(self.secret_sha256.encode(), stored.encode())
        return same and token is not None


_NOBODYS = "0" * 64


def generate() -> tuple[str, Credentials]:
    """A new token's text, `sbx_<id>_<secret>` with 256 random bits of secret, and what is kept of it."""
    text = f"sbx_{secrets.token_hex(6)}_{secrets.token_hex(32)}"
    credentials = read(text)
    assert credentials is not None, "the text has the form that `read` expects"  # noqa: S101
    return text, credentials


def read(text: str) -> Credentials | None:
    """The credentials in a token's text; None when it has not the form of one."""
    found = _TEXT.fullmatch(text)
    return Credentials(found[1], hashlib.sha256(found[2].encode()).hexdigest()) if found else None
