"""Takes the operator's secrets out of what the model API, or a gateway before it, says to a sandbox."""

from __future__ import annotations

from functools import lru_cache

from workers.redaction import RedactedStream, Redactor

Secrets = tuple[str, ...]


def masked(data: bytes, secrets: Secrets) -> bytes:
    """`***` in place of each, as it is, URL-encoded, JSON-escaped and in base64."""
    stream = RedactedStream(_redactor(secrets))
    return stream.feed(data) + stream.finish()


def masked_text(text: str, secrets: Secrets) -> str:
    return _redactor(secrets).redact(text)


@lru_cache(maxsize=4)
def _redactor(secrets: Secrets) -> Redactor:
    return Redactor([secret.encode() for secret in secrets])
