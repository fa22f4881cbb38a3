"""Where the bytes of artifacts lie: a directory, or an S3-compatible object storage."""

from __future__ import annotations

from orchestrator.artifacts.directory import DirectoryStore
from orchestrator.artifacts.location import DirectoryLocation, UnusableArtifactsUrl, parse_location
from orchestrator.artifacts.port import ArtifactStore, ArtifactStoreUnavailable, Stored, TooLarge
from orchestrator.artifacts.streams import CHUNK_BYTES

__all__ = [
    "CHUNK_BYTES",
    "ArtifactStore",
    "ArtifactStoreUnavailable",
    "DirectoryStore",
    "Stored",
    "TooLarge",
    "UnusableArtifactsUrl",
    "open_artifact_store",
    "parse_location",
]


def open_artifact_store(url: str) -> ArtifactStore:
    """Open the storage a `SANDBOX_ARTIFACTS_URL` names.

    Raises `UnusableArtifactsUrl` (a `ValueError`), and `OSError` for a directory that cannot be made.
    """
    location = parse_location(url)
    if isinstance(location, DirectoryLocation):
        return DirectoryStore(location.root)
    try:
        from orchestrator.artifacts.s3 import S3Store  # noqa: PLC0415 - boto3 costs 40 MB, and may be missing
    except ModuleNotFoundError as error:
        if error.name not in {"boto3", "botocore"}:
            raise
        raise UnusableArtifactsUrl(
            f"it names {location}, and boto3 is not installed; run pip install 'sandbox-orchestrator[s3]'"
        ) from error
    return S3Store(location)
