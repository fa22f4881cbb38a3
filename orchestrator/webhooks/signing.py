"""Signatures by the Standard Webhooks specification (1.0): HMAC-SHA256 over id, time and body."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from datetime import datetime

PREFIX = "whsec_"
"""Before a key in base64; any other text is a key itself."""
MIN_SECRET, MAX_SECRET = 24, 512
"""Characters of a secret; with the prefix, the key has at least so many bytes."""
REDACTED = "[redacted]"
"""What is shown in place of a secret."""


def new_secret() -> str:
    """A secret with a key of 256 random bits."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def secret_fault(secret: str) -> str | None:
    """Why a text is no signing secret, and what to do; None when it is one."""
    if secret == REDACTED:
        return f"it is {REDACTED}, which answers show in place of one; write the secret itself, or leave it out"
    if not MIN_SECRET <= len(secret) <= MAX_SECRET:
        return f"it has {len(secret)} characters; take one of {MIN_SECRET} to {MAX_SECRET}"
    if not secret.isprintable():
        return "it holds a control character; take it out"
    if secret.startswith(PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        except binascii.Error:
            key = b""
        if len(key) < MIN_SECRET:
            return f"behind {PREFIX} stands no base64 of at least {MIN_SECRET} bytes; write that, or another beginning"
    return None


def headers(event_id: str, at: datetime, body: bytes, secret: str) -> dict[str, str]:
    """What a delivery is recognised by. Without a secret (`""`) nothing is signed."""
    second = str(int(at.timestamp()))
    told = {"webhook-id": event_id, "webhook-timestamp": second}
    if secret:
        told["webhook-signature"] = f"v1,{_signature(event_id, second, body, secret)}"
    return told


def _signature(event_id: str, second: str, body: bytes, secret: str) -> str:
    signed = f"{event_id}.{second}.".encode() + body
    return base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()


def _key(secret: str) -> bytes:
    if secret.startswith(PREFIX):
        return base64.b64decode(secret.removeprefix(PREFIX))
    return secret.encode()
