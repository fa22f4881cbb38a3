"""Which storage a `SANDBOX_ARTIFACTS_URL` names. Pure: nothing is opened."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

_BUCKET = re.compile(r"[A-Za-z0-9._-]{3,63}")
_PREFIX = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")
MAX_PREFIX_BYTES = 512
"""A key in S3 has 1024 bytes; the product's own part of it takes the rest."""
FORMS = "use file:///absolute/directory or s3://bucket/prefix"


class UnusableArtifactsUrl(ValueError):
    """`SANDBOX_ARTIFACTS_URL` names no storage that this installation can open.

    The message never repeats the URL: people write passwords into URLs, and messages reach logs.
    """

    exit_code = 2

    def __init__(self, why: str) -> None:
        super().__init__(f"SANDBOX_ARTIFACTS_URL is not usable: {why}")


@dataclass(frozen=True, slots=True)
class DirectoryLocation:
    root: Path


@dataclass(frozen=True, slots=True)
class S3Location:
    """`prefix` has no slash at its ends, and may be empty."""

    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def key(self, key: str) -> str:
        """Return the storage's own key for one of ours."""
        return f"{self.prefix}/{key}" if self.prefix else key


def parse_location(url: str) -> DirectoryLocation | S3Location:
    """Raises `UnusableArtifactsUrl`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise UnusableArtifactsUrl(f"it is no URL; {FORMS}") from None
    if parts.query or parts.fragment:
        raise UnusableArtifactsUrl(f"it has a part behind ? or #, and takes none; {FORMS}")
    if parts.scheme == "file":
        return _directory(parts)
    if parts.scheme == "s3":
        return _bucket(parts)
    raise UnusableArtifactsUrl(f"it begins with {parts.scheme or 'no scheme'!r}; {FORMS}")


def _directory(parts: SplitResult) -> DirectoryLocation:
    path = unquote(parts.path)
    if parts.netloc not in {"", "localhost"}:
        raise UnusableArtifactsUrl("file:// takes no host; write three slashes: file:///absolute/directory")
    if not path.startswith("/") or "\0" in path:
        raise UnusableArtifactsUrl(f"its path is no absolute directory; {FORMS}")
    return DirectoryLocation(Path(path))


def _bucket(parts: SplitResult) -> S3Location:
    bucket, prefix = parts.netloc, unquote(parts.path).strip("/")
    if "@" in bucket:
        raise UnusableArtifactsUrl(
            "credentials have no place in it; give them by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a "
            "role, and write s3://bucket/prefix"
        )
    if not _BUCKET.fullmatch(bucket):
        raise UnusableArtifactsUrl(
            "no name of a bucket stands behind s3:// (3 to 63 letters, digits, '.', '_', '-'); write "
            "s3://bucket/prefix, and the server's address into AWS_ENDPOINT_URL_S3"
        )
    if prefix and (
        not _PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/")) or len(prefix) > MAX_PREFIX_BYTES
    ):
        raise UnusableArtifactsUrl(
            f"its prefix has more than {MAX_PREFIX_BYTES} characters, or others than letters, digits, '.', '_', '-' "
            "between single slashes; choose another"
        )
    return S3Location(bucket, prefix)
