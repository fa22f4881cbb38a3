"""The S3 client: every setting that differs from boto3's own, with its reason."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Any

from botocore.config import Config


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one call waits (seconds) and how often it is sent in all."""

    connect_seconds: float
    read_seconds: float
    attempts: int


TRANSFER = Patience(connect_seconds=5, read_seconds=30, attempts=3)
"""boto3 waits 60 s for each and sends five times: a dead storage would hold a worker's slot for ten minutes.
A server in the same region connects in milliseconds; 30 s of silence is longer than any that works needs, also
to complete a large upload. Three times, as the caller repeats the whole put with pauses of its own."""
PROBE = Patience(connect_seconds=3, read_seconds=5, attempts=2)
"""A health check has to answer before the one who asks gives up; twice, so that one lost packet is no outage."""
CONNECTIONS = 64
"""Kept open for the next request; more at once work, too, and are closed after use."""


def make_client(session: Any, patience: Patience) -> Any:
    """Return a client of a boto3 session. Thread-safe.

    Raises `ValueError` or `botocore.exceptions.BotoCoreError` when the standard settings of boto3 are bad.
    """
    config = Config(
        connect_timeout=patience.connect_seconds,
        read_timeout=patience.read_seconds,
        # `standard` repeats timeouts, broken connections, 5xx and throttling, with random pauses; nothing else.
        retries={"mode": "standard", "total_max_attempts": patience.attempts},
        max_pool_connections=CONNECTIONS,
        # Since 1.36 boto3 adds a CRC as a trailer of a chunked body. Older S3-compatible servers answer 501 to
        # that, or keep the chunk headers as part of the file. We send Content-MD5 instead, which S3 and every
        # such server has verified from the beginning.
        request_checksum_calculation="when_required",
        # Ours is end to end: the API sends the SHA-256 of the store's row, and the client compares it.
        response_checksum_validation="when_required",
    )
    client = session.client("s3", config=config)
    client.meta.events.register("before-call.s3.DeleteObjects", _add_md5)
    return client


def content_md5(body: bytes | bytearray) -> str:
    """Return the `Content-MD5` of a body: against accidents on the way, not against attackers."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def _add_md5(params: dict[str, Any], **_: object) -> None:
    """Older servers insist on Content-MD5 for DeleteObjects; boto3 sends a CRC alone since 1.36."""
    params["headers"]["Content-MD5"] = content_md5(params["body"])
